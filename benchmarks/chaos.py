"""Kill -9 of API, workers and training processes at random moments over a stream of jobs."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fleet import CONCRETE, Fleet
from benchmarks.postgresql import postgresql
from models import load_artifact
from models.errors import ArtifactError

IN_LINE = 3  # jobs that wait, while others run
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
    halves: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(arguments: argparse.Namespace) -> None:
    """Prints the toll on SQLite and on PostgreSQL."""
    table = Table(
        "database", "kills", "jobs", "attempts", "lost", "doubled", "half", "other weights", "s"
    )
    for name in ("SQLite", "PostgreSQL"):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = None if name == "SQLite" else stack.enter_context(postgresql(folder / "db")).url
            toll = wreak(folder / "home", url, kills=arguments.kills, seed=arguments.seed)
        kills = ", ".join(f"{count} {victim}" for victim, count in sorted(toll.kills.items()))
        faults = (toll.lost, toll.doubled, toll.halves, toll.different)
        figures = [toll.jobs, toll.attempts, *map(len, faults), round(toll.seconds)]
        for fault in (*chain.from_iterable(faults), *toll.left):
            print(f"{name}: {fault}")
        table.add_row(name, f"{toll.kills.total()}: {kills}", *map(str, figures))
    Console(width=120).print(table)


def wreak(
    home: Path,
    database_url: str | None,
    *,
    kills: int,
    seed: int,
    in_line: int = IN_LINE,
    calm: float = 1.0,
) -> Toll:
    """Kills so many processes while there are always jobs under way, and counts. There is at
    most `calm` of the time of a start and a job between two kills."""
    began = time.monotonic()
    fleet = Fleet(home, database_url, checkpoint_seconds=0, worker_lost_seconds=3)
    toll = Toll()
    try:
        fleet.start_api(with_worker=True)
        fleet.start_worker("worker-2")
        dataset = fleet.upload(CONCRETE)
        job = fleet.submit("calm", model="calm", dataset=dataset, **REQUEST)
        ended = fleet.finish(job)
        assert ended["status"] == "succeeded", ended
        # As long as it takes to start and to do a job: of what is killed at any moment of that,
        # much is in the middle of something, and much has been done.
        rhythm = calm * (time.monotonic() - began)
        stream = _Stream(fleet, dataset, in_line)
        stream.start()
        chance = random.Random(seed)
        kinds: list[str] = []
        while toll.kills.total() < kills:
            kinds = kinds or chance.sample(["api", "worker", "trainer"], 3)
            time.sleep(chance.uniform(0.0, rhythm))
            if _kill(fleet, kinds[-1], chance):
                toll.kills[kinds.pop()] += 1
            fleet.revive()
        stream.stop()
        toll.halves = stream.halves
        _count(fleet, stream.jobs, toll)
    finally:
        fleet.close()
    toll.seconds = time.monotonic() - began
    return toll


class _Stream(threading.Thread):
    """Submits jobs, so that some always wait, and takes each version as soon as it is seen.
    `jobs` are those acknowledged, by model; `halves` the models whose version was not whole."""

    def __init__(self, fleet: Fleet, dataset: str, in_line: int) -> None:
        super().__init__(name="stream", daemon=True)
        self._fleet = fleet
        self._dataset = dataset
        self._in_line = in_line
        self._stopping = threading.Event()
        self._seen: set[str] = set()
        self.jobs: dict[str, str] = {}
        self.halves: list[str] = []

    def run(self) -> None:
        while not self._stopping.wait(0.2):
            # An API that is killed sooner than it starts answers nobody for long.
            with contextlib.suppress(TimeoutError):
                self._look()
                self._feed()

    def _look(self) -> None:
        # The newest hundred, of which far fewer are new.
        for listed in self._fleet.ask("GET", "/v1/models").json()["data"]:
            if listed["model"] not in self._seen:
                self._seen.add(listed["model"])
                if not self._is_whole(listed["model"]):
                    self.halves.append(listed["model"])

    def _is_whole(self, model: str) -> bool:
        """Whether the artifact is there, matches its checksums, and is the one of its card."""
        path = f"/v1/models/{model}/versions/1"
        card, artifact = self._fleet.ask("GET", path), self._fleet.ask("GET", f"{path}/artifact")
        file = self._fleet.home.parent / "seen.zip"
        file.write_bytes(artifact.content)
        try:
            return load_artifact(file).sha256 == str(card.json()["artifact_sha256"])
        except ArtifactError:
            return False

    def _feed(self) -> None:
        waiting = self._fleet.ask("GET", "/v1/training_jobs?status=queued").json()["data"]
        if len(waiting) < self._in_line:
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
        ends = [event for event in fleet.events(job) if event["data"].get("status") == "succeeded"]
        if (len(versions), len(ends)) != (1, 1):
            toll.doubled.append(model)
        if fleet.weights(model) != expected:
            toll.different.append(model)
    toll.left = [folder.name for folder in (fleet.home / "jobs").iterdir()]
