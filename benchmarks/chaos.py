"""Kill -9 of API, workers and training processes at random moments over a stream of jobs."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fleet import CONCRETE, Fleet
from benchmarks.postgresql import postgresql

IN_FLIGHT = 3
REQUEST = {
    "target": "compressive_strength",
    "calibration": "split",
    "hyperparameters": {"hidden": [32, 32], "epochs": 15},
}


@dataclass
class Toll:
    """What was killed, and what became of the jobs that were acknowledged."""

    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    attempts: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(arguments: argparse.Namespace) -> None:
    """Prints the toll on SQLite and on PostgreSQL."""
    table = Table("database", "kills", "jobs", "attempts", "lost", "doubled", "other weights", "s")
    for name in ("SQLite", "PostgreSQL"):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = None if name == "SQLite" else stack.enter_context(postgresql(folder / "db")).url
            toll = wreak(folder / "home", url, kills=arguments.kills, seed=arguments.seed)
        kills = ", ".join(f"{count} {victim}" for victim, count in sorted(toll.kills.items()))
        outcomes = [len(jobs) for jobs in (toll.lost, toll.doubled, toll.different)]
        figures = [toll.jobs, toll.attempts, *outcomes, round(toll.seconds)]
        for fault in (*toll.lost, *toll.doubled, *toll.different, *toll.left):
            print(f"{name}: {fault}")
        table.add_row(name, f"{toll.kills.total()}: {kills}", *map(str, figures))
    Console(width=120).print(table)


def wreak(home: Path, database_url: str | None, *, kills: int, seed: int) -> Toll:
    """Kills so many processes while there are always jobs under way, and counts."""
    began = time.monotonic()
    fleet = Fleet(home, database_url, checkpoint_seconds=0, worker_lost_seconds=3)
    toll = Toll()
    try:
        fleet.start_api(with_worker=True)
        fleet.start_worker("worker-2")
        dataset = fleet.upload(CONCRETE)
        calm = fleet.submit("calm", model="calm", dataset=dataset, **REQUEST)
        ended = fleet.finish(calm)
        assert ended["status"] == "succeeded", ended
        taken = dt.datetime.fromisoformat(ended["finished_at"]) - dt.datetime.fromisoformat(
            ended["started_at"]
        )
        stream = _Stream(fleet, dataset)
        stream.start()
        chance = random.Random(seed)
        kinds: list[str] = []
        while toll.kills.total() < kills:
            kinds = kinds or chance.sample(["api", "worker", "trainer"], 3)
            # About two kills in the time that a job takes undisturbed, whatever the machine.
            time.sleep(chance.uniform(0.0, taken.total_seconds()))
            if _kill(fleet, kinds[-1], chance):
                toll.kills[kinds.pop()] += 1
            fleet.revive()
        stream.stop()
        _count(fleet, stream.jobs, toll)
    finally:
        fleet.close()
    toll.seconds = time.monotonic() - began
    return toll


class _Stream(threading.Thread):
    """Submits jobs, so that some are always under way; `jobs` are those acknowledged, by model."""

    def __init__(self, fleet: Fleet, dataset: str) -> None:
        super().__init__(name="stream", daemon=True)
        self._fleet = fleet
        self._dataset = dataset
        self._stopping = threading.Event()
        self.jobs: dict[str, str] = {}

    def run(self) -> None:
        while not self._stopping.is_set():
            # An API that is killed sooner than it starts answers nobody for long.
            with contextlib.suppress(TimeoutError):
                self._feed()

    def _feed(self) -> None:
        waiting = self._fleet.ask("GET", "/v1/training_jobs?status=queued").json()["data"]
        if len(waiting) >= IN_FLIGHT:
            self._stopping.wait(0.5)
            return
        model = f"m{len(self.jobs)}"
        request = {"model": model, "dataset": self._dataset, **REQUEST}
        self.jobs[model] = self._fleet.submit(model, **request)

    def stop(self) -> None:
        self._stopping.set()
        self.join(180)


def _kill(fleet: Fleet, kind: str, chance: random.Random) -> bool:
    """Kills a process of that kind, as soon as there is one; False if none came."""
    until = time.monotonic() + 10.0
    while not (victims := _processes(fleet)[kind]) and time.monotonic() < until:
        time.sleep(0.05)
        fleet.revive()
    if not victims:
        return False
    victim = chance.choice(victims)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
        for process in fleet.members.values():
            if process.pid == victim:
                process.wait()
        return True
    return False


def _processes(fleet: Fleet) -> dict[str, list[int]]:
    """The processes of each kind."""
    api, two = fleet.members["api"].pid, fleet.members["worker-2"].pid
    workers = [two, *_children(api)]
    trainers = [child for worker in workers for child in _children(worker)]
    return {"api": [api], "worker": workers, "trainer": trainers}


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    return []


def _count(fleet: Fleet, jobs: dict[str, str], toll: Toll) -> None:
    """Waits for all jobs, and looks at what they have left."""
    expected = fleet.weights("calm")
    for model, job in jobs.items():
        fleet.revive()
        ended = fleet.finish(job, 300)
        toll.jobs += 1
        toll.attempts += ended["attempt"]
        if ended["status"] != "succeeded":
            toll.lost.append(f"{model}: {ended['error']}")
            continue
        versions = fleet.ask("GET", f"/v1/models/{model}").json()["versions"]
        if len(versions) != 1:
            toll.doubled.append(model)
        if fleet.weights(model) != expected:
            toll.different.append(model)
    toll.left = [folder.name for folder in (fleet.home / "jobs").iterdir()]
