"""Which queued job comes next, and on which device: no more than arithmetic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True)
class Waiting:
    """A queued job: its place in the order of submission, its model, the device it asks for."""

    number: int
    id: str
    model: str
    device: str


def in_turn(waiting: Iterable[Waiting], served: Mapping[str, dt.datetime]) -> list[Waiting]:
    """Models take turns: the one whose last job was begun longest ago, or never, comes first;
    within a model the oldest job does. So a hundred jobs of one model delay another's only by
    those that run already."""
    return sorted(waiting, key=lambda job: (served.get(job.model, _NEVER), job.number))


@dataclass(frozen=True)
class Devices:
    """What a worker's machine has: `n_gpus`, each for so many jobs at a time, and the `default`
    of jobs that do not choose."""

    default: str = "auto"
    n_gpus: int = 0
    slots: int = 1

    def place(self, wish: str, used: Mapping[str, int]) -> str | None:
        """The device for a job, given how many jobs use each; None while there is no room.

        A device that is not here is no reason to wait: the job ends with an error that says so.
        """
        device = self.default if wish == "auto" else wish
        if device == "auto":
            device = "cuda" if self.n_gpus else "cpu"
        if device == "cuda" and self.n_gpus:
            device = min(self._gpus, key=lambda gpu: used.get(gpu, 0))
        return device if device not in self._gpus or used.get(device, 0) < self.slots else None

    @property
    def _gpus(self) -> list[str]:
        return [f"cuda:{number}" for number in range(self.n_gpus)]
