"""Measurements in turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TypeVar

T = TypeVar("T")

# Calls of one measurement: as many as begin within so many seconds, at most.
CALLS, SECONDS = 20, 0.2


def interleave(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each way gave in each round; in every other round the ways go backwards."""
    found: dict[str, list[T]] = {name: [] for name in ways}
    for i in range(rounds):
        for name in list(ways) if i % 2 == 0 else reversed(ways):
            found[name].append(ways[name]())
    return found


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return median(a / b for a, b in zip(these, those, strict=True))


def processor_seconds(work: Callable[[], object]) -> float:
    """Of a typical call: the median of several, one after the other. The first ones find memory as
    another program left it."""
    began, found = time.monotonic(), []
    while len(found) < CALLS and (not found or time.monotonic() < began + SECONDS):
        at = time.process_time()
        work()
        found.append(time.process_time() - at)
    return median(found)
