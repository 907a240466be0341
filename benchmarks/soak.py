"""Everything at once for a quarter of an hour, at saturation: what fails, and what grows.

    python -m benchmarks soak --minutes 15

Clients ask in turn for mixed things while an alias moves and jobs train; the version that a job
makes is deleted again, so that what is there stays as much as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.local_service import LocalService, resident
from benchmarks.plain_http import ask, prepare

CLIENTS = 8
SECONDS_PER_ALIAS = 0.5
SECONDS_PER_LOOK = 1.0
# Memory is looked at after this share of the time.
WARM_UP = 0.25
ROW = [540, 0, 0, 162, 2.5, 1040, 676, 28]
BIRD = {"island": "Biscoe", "bill_length_mm": 46.5, "flipper_length_mm": 192, "body_mass_g": 3500}


@dataclass(frozen=True)
class Look:
    """The process after so many seconds: resident memory (MB), open files and threads by name."""

    at: float
    memory: float
    files: Counter[str]
    threads: Counter[str]


@dataclass
class Seen:
    """What came back by kind of request, and the process by the second."""

    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    looks: list[Look] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    seconds = 60.0 * (arguments.minutes or 15.0)
    with tempfile.TemporaryDirectory() as folder:
        service = LocalService(Path(folder), examples="true")
        service.start()
        try:
            service.until_trained()
            seen = asyncio.run(_soak(service, seconds))
        finally:
            service.stop()
    _print(seen, seconds)


def _requests() -> dict[str, tuple[bytes, set[int]]]:
    """Of each kind one request, and the statuses that are right for it beside 503."""
    concrete, penguins = "/v1/models/concrete", "/v1/models/penguins"
    tensor = {"name": "input", "shape": [1, 8], "datatype": "FP32", "data": ROW}
    return {
        "predict": (prepare("POST", f"{concrete}:predict", {"instances": [ROW] * 8}), {200}),
        "predict, 2,000 rows": (
            prepare("POST", f"{concrete}:predict", {"instances": [ROW] * 2000}),
            {200},
        ),
        "uncertainty": (prepare("POST", f"{concrete}:uncertainty", {"instances": [ROW]}), {200}),
        "uncertainty of classes": (
            prepare("POST", f"{penguins}:uncertainty", {"instances": [BIRD] * 4, "seed": None}),
            {200},
        ),
        "uncertainty, 300 rows": (
            prepare(
                "POST",
                f"{concrete}:uncertainty",
                {"instances": [ROW] * 300, "n_samples": 400, "estimator": "mc"},
            ),
            {200},
        ),
        "dropout": (prepare("POST", f"{concrete}:dropout", {"instance": ROW}), {200}),
        "infer": (prepare("POST", "/v2/models/concrete/infer", {"inputs": [tensor]}), {200}),
        "card": (prepare("GET", concrete), {200}),
        "metrics": (prepare("GET", "/metrics"), {200}),
        "bad row": (prepare("POST", f"{concrete}:predict", {"instances": [["x"]]}), {422}),
        "no JSON": (prepare("POST", f"{concrete}:predict", b"{"), {400}),
        "no model": (prepare("POST", "/v1/models/nobody:predict", {"instances": [ROW]}), {404}),
    }


async def _soak(service: LocalService, seconds: float) -> Seen:
    seen = Seen()
    job = await _job(service.port)
    # The version that the alias moves to and fro.
    assert (await _train(service.port, job))["status"] == "succeeded"
    ends = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for i in range(CLIENTS):
            group.create_task(_keep_asking(service.port, seen, ends, random.Random(i)))
        group.create_task(_move_alias(service.port, seen, ends))
        group.create_task(_keep_training(service.port, job, seen, ends))
        group.create_task(_look(service.pid, seen, ends))
    return seen


async def _keep_asking(port: int, seen: Seen, ends: float, chance: random.Random) -> None:
    requests = _requests()
    kinds = list(requests)
    while time.perf_counter() < ends:
        kind = chance.choice(kinds)
        request, right = requests[kind]
        answer = await ask(port, request)
        wrong = answer.status not in right | {503}
        seen.statuses[kind][-answer.status if wrong else answer.status] += 1
        if answer.status in right:
            seen.seconds[kind].append(answer.seconds)


async def _move_alias(port: int, seen: Seen, ends: float) -> None:
    path = "/v1/models/concrete/aliases/production"
    for version in itertools.cycle((2, 1)):
        if time.perf_counter() > ends:
            return
        answer = await ask(port, prepare("PUT", path, {"version": version}))
        right = answer.status in (200, 503)
        seen.statuses["alias moved"][answer.status if right else -answer.status] += 1
        await asyncio.sleep(SECONDS_PER_ALIAS)


async def _job(port: int) -> dict[str, Any]:
    """A job that makes another version of concrete, and never promotes it by itself."""
    listed = await ask(port, prepare("GET", "/v1/training_jobs"))
    jobs = {job["model"]: job for job in json.loads(listed.body)["data"]}
    return {
        "model": "concrete",
        "dataset": jobs["concrete"]["dataset"],
        "target": jobs["concrete"]["target"],
        "hyperparameters": {"epochs": 20},
        "promote": "never",
    }


async def _train(port: int, job: dict[str, Any]) -> dict[str, Any]:
    """The job, once it has ended."""
    answer = await ask(port, prepare("POST", "/v1/training_jobs", job))
    if answer.status != 202:
        return {"status": f"refused with {answer.status}"}
    path = f"/v1/training_jobs/{json.loads(answer.body)['id']}"
    while True:
        answer = await ask(port, prepare("GET", path))
        if answer.status == 200:
            found: dict[str, Any] = json.loads(answer.body)
            if found["status"] not in ("queued", "running"):
                return found
        await asyncio.sleep(0.5)


async def _keep_training(port: int, job: dict[str, Any], seen: Seen, ends: float) -> None:
    while time.perf_counter() < ends:
        ended = await _train(port, job)
        seen.statuses["job"][200 if ended["status"] == "succeeded" else -500] += 1
        if ended["status"] == "succeeded":
            path = f"/v1/models/concrete/versions/{ended['result']['version']}"
            answer = await ask(port, prepare("DELETE", path))
            right = answer.status in (204, 503)
            seen.statuses["version deleted"][answer.status if right else -answer.status] += 1


async def _look(pid: int, seen: Seen, ends: float) -> None:
    started = time.perf_counter()
    process = Path(f"/proc/{pid}")
    while time.perf_counter() < ends:
        with contextlib.suppress(OSError):
            files = Counter(_named(file.readlink()) for file in (process / "fd").iterdir())
            threads = Counter(
                (thread / "comm").read_text().strip() for thread in (process / "task").iterdir()
            )
            seen.looks.append(Look(time.perf_counter() - started, resident(pid), files, threads))
        await asyncio.sleep(SECONDS_PER_LOOK)


def _named(target: Path) -> str:
    """What an open file is: its last name, without what numbers it."""
    return re.sub(r"[0-9a-f]{8,}|\d+", "#", target.name)


def _print(seen: Seen, seconds: float) -> None:
    table = Table(
        "request", "right", "503", "wrong", "median", "p99", title=f"Soak, {seconds:.0f} s"
    )
    for kind, statuses in seen.statuses.items():
        wrong = {-status: count for status, count in statuses.items() if status <= 0}
        right = sum(count for status, count in statuses.items() if status > 0 and status != 503)
        table.add_row(kind, str(right), str(statuses[503]), str(wrong or 0), *_spread(seen, kind))
    console = Console(width=100)
    console.print(table)
    for line in _growth(seen):
        console.print(line)


def _spread(seen: Seen, kind: str) -> tuple[str, str]:
    seconds = seen.seconds[kind]
    if len(seconds) < 2:
        return "", ""
    return f"{1e3 * median(seconds):.1f} ms", f"{1e3 * quantiles(seconds, n=100)[98]:.1f} ms"


def _growth(seen: Seen) -> Iterator[str]:
    """How memory, files and threads went, once warm, and which of these are more at the end."""
    warm = seen.looks[int(WARM_UP * len(seen.looks)) :]
    minutes = [look.at / 60.0 for look in warm]
    for name, unit, values in (
        ("memory", " MB", [look.memory for look in warm]),
        ("open files", "", [float(look.files.total()) for look in warm]),
        ("threads", "", [float(look.threads.total()) for look in warm]),
    ):
        half = len(values) // 2
        slope, later = (
            linear_regression(minutes[begin:], values[begin:]).slope for begin in (0, half)
        )
        yield (
            f"{name}: {values[0]:.0f}{unit} when warm, {values[-1]:.0f}{unit} at the end, at most "
            f"{max(values):.0f}{unit}; slope {slope:+.2f}{unit} a minute, in the second half "
            f"{later:+.2f}"
        )
    before, after = warm[0], warm[-1]
    more = (after.files - before.files) + (after.threads - before.threads)
    yield "more at the end: " + (", ".join(f"{n} {name}" for name, n in more.items()) or "nothing")
