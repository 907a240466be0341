"""What there is to know of an answer besides the answer: for metrics, feedback and traces."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.live import Claims, Values
from models.table import Encoded
from service.computation import Predicted, Uncertain

Array = np.ndarray


@dataclass(slots=True)
class Observation:
    """One answer: its rows, and what they were told.

    `waited` and `took` are seconds before and of the computing, which ended at `ended`
    (`time.perf_counter()`). `spread` (N,) is the predictive std in units of the target's std, or
    the entropy in nats; `samples_asked` is T, of which `samples_used` were drawn. `claims` are
    what feedback can be compared with. Of answers computed together one counts the execution.
    """

    model: str
    version: int
    mode: str
    rows: int
    is_regression: bool
    waited: float
    took: float
    ended: float
    claims: Claims | Values
    flags: Mapping[str, int] = field(default_factory=dict)
    samples_asked: int = 0
    samples_used: int = 0
    spread: Array | None = None
    abstained: int = 0
    executions: int = 1


def observe(answer: Predicted, asked: float, began: float, executions: int = 1) -> Observation:
    """Of an answer just computed, that was asked for and begun at those times."""
    ended = time.perf_counter()
    loaded, target = answer.loaded, answer.loaded.artifact.schema.target
    flags = count_flags(answer.encoded)
    rows, is_regression = len(answer.values), target.task == "regression"
    waited, took = began - asked, ended - began
    if not isinstance(answer, Uncertain):
        return Observation(
            loaded.model, loaded.version, "eval", rows, is_regression, waited, took, ended,
            Values(answer.values), flags, executions=executions,
        )  # fmt: skip
    uncertainty = answer.claims.uncertainty
    return Observation(
        loaded.model, loaded.version, "mc_dropout", rows, is_regression, waited, took, ended,
        answer.claims,
        flags,
        answer.draw.n_samples,
        answer.estimate.samples_used,
        uncertainty / target.std if is_regression else uncertainty,
        int(np.count_nonzero(answer.claims.abstains)),
        executions,
    )  # fmt: skip


def count_flags(encoded: Encoded) -> Mapping[str, int]:
    """How often each kind of flag is among those of N rows."""
    counts: dict[str, int] = {}
    for flag, marked in encoded.marks.items():
        count = int(np.count_nonzero(marked))
        if count:
            kind = flag.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + count
    return counts


class Observer:
    """Is told what inference does, on the event loop; this one does nothing about it."""

    def answered(self, seen: Observation) -> None:
        """An execution has ended."""

    def queue(self, depth: int) -> None:
        """So many requests wait for a thread or compute in one."""
