"""Promoting and rolling back under load, on two API processes of one home: failed requests,
answers by versions that were not live, and how soon the other process follows."""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.local_service import LocalService

MODEL = "swapped"
ROWS = [{"a": 0.5, "b": -1.0}, {"a": 0.1, "b": 0.3}]
# How long the process that was not told may go on with the version before.
MOST_SECONDS = 2.0


def run(arguments: argparse.Namespace) -> None:
    """Prints what happened while production moved `--swaps` times."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        first = LocalService(home)
        other = LocalService(home, worker=False)
        first.start()
        other.start()
        train(first.client)
        report = swap([first.client, other.client], arguments.swaps)
        other.stop()
        first.stop()
    table = Table("what", "figure", title=f"{arguments.swaps} swaps under load, two API processes")
    table.add_row("requests", str(report.requests))
    table.add_row("failed requests", str(len(report.failures)))
    table.add_row("answers by a version that was not live", str(len(report.stale)))
    lags = report.propagation_seconds
    table.add_row("alias propagation, median", f"{median(lags):.2f} s")
    table.add_row("alias propagation, most", f"{max(lags):.2f} s")
    Console(width=100).print(table)


@dataclass
class Report:
    """What clients saw."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    propagation_seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Move:
    """Production became that version some time between these two moments."""

    version: int
    begun: float
    done: float


def train(client: httpx.Client) -> None:
    """Two small versions of one model."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2, 300))
    rows = "".join(f"{x:.4f},{y:.4f},{x - y:.4f}\n" for x, y in zip(a, b, strict=True))
    dataset = client.post("/v1/datasets", content=f"a,b,y\n{rows}").json()["id"]
    request = {"model": MODEL, "dataset": dataset, "target": "y", "promote": "always"}
    request |= {"calibration": "split", "hyperparameters": {"epochs": 3, "hidden": [64, 64]}}
    for seed in (0, 1):
        job = client.post("/v1/training_jobs", json=request | {"seed": seed}).json()["id"]
        while (found := client.get(f"/v1/training_jobs/{job}").json())["status"] != "succeeded":
            assert found["status"] in ("queued", "running"), found
            time.sleep(0.1)


def swap(clients: list[httpx.Client], swaps: int) -> Report:
    """Moves production between versions 1 and 2 at the first, while all are asked constantly."""
    report = Report()
    told, others = clients[0], clients[1:]
    moves = [_moved(told, 1)]
    for other in others:
        _follow(other, 1)
    ending = threading.Event()
    answers: list[tuple[int, float, float, int]] = []
    threads = [
        threading.Thread(target=_ask, args=(client, i, verb, ending, answers, report.failures))
        for i, client in enumerate(clients)
        for verb in ("predict", "uncertainty")
    ]
    for thread in threads:
        thread.start()
    for number in range(swaps):
        moves.append(_moved(told, 2 - number % 2))
        for other in others:
            _follow(other, moves[-1].version)
            report.propagation_seconds.append(time.monotonic() - moves[-1].done)
    ending.set()
    for thread in threads:
        thread.join()
    report.requests = len(answers) + len(report.failures)
    for place, sent, received, version in answers:
        # A process that was not told may lag behind; the one that was may not.
        since = sent - (MOST_SECONDS if place else 0.0)
        if version not in _live(moves, since, received):
            report.stale.append(f"version {version} from process {place} at {sent:.3f}")
    return report


def _live(moves: list[_Move], since: float, until: float) -> set[int]:
    """The versions that production may have been at some moment between these two."""
    ends = [move.done for move in moves[1:]] + [float("inf")]
    return {
        move.version
        for move, end in zip(moves, ends, strict=True)
        if move.begun <= until and end >= since
    }


def _moved(client: httpx.Client, version: int) -> _Move:
    begun = time.monotonic()
    path = f"/v1/models/{MODEL}/aliases/production"
    client.put(path, json={"version": version}).raise_for_status()
    return _Move(version, begun, time.monotonic())


def _follow(client: httpx.Client, version: int) -> None:
    """Returns once the process answers with that version."""
    while _version_of(client, "predict") != version:
        time.sleep(0.005)


def _version_of(client: httpx.Client, verb: str) -> int:
    response = client.post(f"/v1/models/{MODEL}:{verb}", json={"instances": ROWS})
    response.raise_for_status()
    return int(response.json()["version"])


def _ask(
    client: httpx.Client,
    place: int,
    verb: str,
    ending: threading.Event,
    answers: list[tuple[int, float, float, int]],
    failures: list[str],
) -> None:
    # A connection of its own, as another client's.
    with httpx.Client(base_url=client.base_url, timeout=60.0) as own:
        while not ending.is_set():
            sent = time.monotonic()
            try:
                version = _version_of(own, verb)
            except httpx.HTTPError as error:
                failures.append(f"{verb}: {error}")
            else:
                answers.append((place, sent, time.monotonic(), version))
