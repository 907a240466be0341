"""How soon a cancel takes effect at each stage, and a job is at work elsewhere."""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fleet import CONCRETE, ENDED, Fleet
from benchmarks.postgresql import postgresql

REPEATS = 3
SLOW = {
    "target": "compressive_strength",
    "calibration": "cross",
    "promote": "never",
    "hyperparameters": {"epochs": 40, "dropout": {"p": "auto"}},
}
PLAIN = SLOW | {"hyperparameters": {"epochs": 40}}
BRIEF = PLAIN | {"calibration": "split", "promote": "if_better"}
LONG = SLOW | {"hyperparameters": {"epochs": 5000, "early_stopping_patience": 5000}}


def run(_: argparse.Namespace) -> None:
    """Prints both, of two workers on one PostgreSQL with default settings."""
    table = Table("what", "median", "longest", title=f"Training jobs, {REPEATS} times each")
    with tempfile.TemporaryDirectory() as folder, postgresql(Path(folder) / "db") as server:
        fleet = Fleet(Path(folder) / "home", server.url)
        try:
            fleet.start_api()
            fleet.start_worker("worker-1")
            dataset = fleet.upload(CONCRETE)
            for stage, request, is_there in STAGES:
                seconds = [_cancel(fleet, dataset, request, is_there) for _ in range(REPEATS)]
                _add(table, f"cancel while it {stage}: cancelled, and no process left", seconds)
            fleet.start_worker("worker-2")
            for what, number in (("stopped", signal.SIGTERM), ("killed", signal.SIGKILL)):
                seconds = [_move(fleet, dataset, number) for _ in range(REPEATS)]
                _add(table, f"worker {what}: its job runs on the other", seconds)
        finally:
            fleet.close()
    Console(width=100).print(table)


def _add(table: Table, what: str, seconds: list[float]) -> None:
    table.add_row(what, f"{median(seconds):.2f} s", f"{max(seconds):.2f} s")


Stage = Callable[[Fleet, str], bool]


def _has(key: str, least: int) -> Stage:
    return lambda fleet, job: any(
        event["data"].get(key, -1) >= least for event in fleet.events(job)
    )


def _runs(fleet: Fleet, job: str) -> bool:
    return bool(fleet.events(job)[-1]["data"].get("status") == "running")


def _has_artifact(fleet: Fleet, job: str) -> bool:
    return any((fleet.home / "jobs" / job).glob("*/artifact/SHA256SUMS"))


STAGES: list[tuple[str, dict[str, Any], Stage]] = [
    ("prepares", PLAIN, _runs),
    ("searches", SLOW, _has("trial", 4)),
    ("trains", PLAIN, _has("epoch", 2)),
    ("fits folds", PLAIN, _has("fold", 2)),
    ("calibrates", PLAIN, _has("fold", 6)),
    # Its artifact is written; it is compared with production, and made a version.
    ("publishes", BRIEF, _has_artifact),
]


def _cancel(fleet: Fleet, dataset: str, request: dict[str, Any], is_there: Stage) -> float:
    """Seconds from the request to its effect, at that stage."""
    while True:
        job = fleet.submit(f"{time.time()}", model="m", dataset=dataset, **request)
        for _ in fleet.patience(300):
            if is_there(fleet, job) or fleet.job(job)["status"] in ENDED:
                break
        began = time.monotonic()
        fleet.act(job, "cancel")
        ended = fleet.finish(job)
        fleet.wait_until(lambda: not fleet.children("worker-1"))
        if ended["status"] == "cancelled":
            return time.monotonic() - began


def _move(fleet: Fleet, dataset: str, number: int) -> float:
    """Seconds from the signal until another worker runs the job, by the times of its events."""
    fleet.revive()
    job = fleet.submit(f"{time.time()}", model="m", dataset=dataset, **LONG)
    fleet.wait_until(lambda: fleet.epoch(job) > 2)
    worker = fleet.runner(job)
    assert worker is not None
    began = dt.datetime.now(dt.UTC)
    fleet.send(worker, number)
    fleet.wait_until(lambda: fleet.runner(job) not in (None, worker))
    moved = [event for event in fleet.events(job) if event["data"].get("status") == "running"][-1]
    fleet.act(job, "cancel")
    fleet.finish(job)
    return (dt.datetime.fromisoformat(moved["created_at"]) - began).total_seconds()
