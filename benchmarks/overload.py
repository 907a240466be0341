"""Four times the capacity offered, open-loop: what is still done, how fast the rest is refused,
and how soon all is as before.

    python -m benchmarks overload --minutes 1
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

from benchmarks.local_service import LocalService
from benchmarks.plain_http import Answer, ask, prepare

OFFERED = 4.0
# Requests that wait: about a second of work, which is then also the longest wait.
WAITING = 8
# Of one request alone; heavy enough that the sender's share of the machine is small.
TARGET_SECONDS = 0.15
LONGEST_RECOVERY = 60.0
ROW = [540, 0, 0, 162, 2.5, 1040, 676, 28]


def run(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        service = LocalService(Path(folder), worker=True, examples="true", max_waiting=str(WAITING))
        service.start()
        try:
            service.until_trained()
            asyncio.run(_measure(service.port, 60.0 * (arguments.minutes or 1.0)))
        finally:
            service.stop()


async def _measure(port: int, seconds: float) -> None:
    request, alone = await _choose(port)
    capacity = await _capacity(port, request, seconds / 2)
    tasks = await _offer(port, request, OFFERED * capacity, seconds)
    recovery = await _recovery(port, request, 2.0 * alone)
    answers = await asyncio.gather(*tasks)
    done = [a.seconds for a in answers if a.status == 200]
    refused = [a.seconds for a in answers if a.status == 503]
    table = Table("what", "figure", title=f"Overload, {seconds:.0f} s")
    table.add_row("one request alone", f"{1e3 * alone:.0f} ms")
    table.add_row("capacity, 4 clients in turn", f"{capacity:.1f} /s")
    table.add_row("offered, open-loop", f"{len(answers) / seconds:.1f} /s")
    goodput = len(done) / seconds
    table.add_row("goodput", f"{goodput:.1f} /s, {goodput / capacity:.0%} of capacity")
    table.add_row("answered, median and p99", _spread(done))
    table.add_row("refused with 503", f"{len(refused)} of {len(answers)}")
    table.add_row("refused, median and p99", _spread(refused))
    table.add_row("neither", str(len(answers) - len(done) - len(refused)))
    table.add_row(
        "recovery: a request takes at most twice as long as alone after", f"{recovery:.2f} s"
    )
    Console(width=100).print(table)


async def _choose(port: int) -> tuple[bytes, float]:
    """A request that takes about as long as it should, and how long it takes."""
    rows = 100
    while True:
        body = {"instances": [ROW] * rows, "n_samples": 1000, "estimator": "mc"}
        request = prepare("POST", "/v1/models/concrete:uncertainty", body)
        answers = [await ask(port, request) for _ in range(5)]
        assert all(answer.status == 200 for answer in answers), answers[0].body
        seconds = median(answer.seconds for answer in answers)
        if 0.7 < seconds / TARGET_SECONDS < 1.5 or not 20 <= rows <= 5000:
            return request, seconds
        rows = max(1, round(rows * TARGET_SECONDS / seconds))


async def _capacity(port: int, request: bytes, seconds: float) -> float:
    """Answers in a second to four clients who each ask again at once."""
    ends = time.perf_counter() + seconds

    async def keep_asking() -> int:
        count = 0
        while time.perf_counter() < ends:
            count += (await ask(port, request)).status == 200
        return count

    return sum(await asyncio.gather(*(keep_asking() for _ in range(4)))) / seconds


async def _offer(
    port: int, request: bytes, rate: float, seconds: float
) -> list[asyncio.Task[Answer]]:
    """So many requests in a second, sent whatever becomes of those before; all are sent, and
    some not yet answered."""
    return [asyncio.create_task(ask(port, request)) async for _ in _ticks(rate, seconds)]


async def _ticks(rate: float, seconds: float) -> AsyncIterator[None]:
    started = time.perf_counter()
    for i in range(int(rate * seconds)):
        await asyncio.sleep(started + i / rate - time.perf_counter())
        yield


async def _recovery(port: int, request: bytes, fast: float) -> float:
    """Seconds until a request is answered as fast as that."""
    started = time.perf_counter()
    while (began := time.perf_counter() - started) < LONGEST_RECOVERY:
        answer = await ask(port, request)
        if answer.status == 200 and answer.seconds <= fast:
            return began
        await asyncio.sleep(0.05)
    return float("inf")


def _spread(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "none"
    return f"{1e3 * median(seconds):.1f} ms, {1e3 * quantiles(seconds, n=100)[98]:.1f} ms"
