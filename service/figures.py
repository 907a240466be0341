"""Counters, gauges and histograms that several processes count together.

Each process writes into mapped files of its own, in the format of `prometheus_client`'s
multiprocess mode; whoever is asked adds up the files of all. Nothing is lost when a process is
killed: its files stay, and the next process to take its slot counts on from there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import IO, Literal

import numpy as np
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.utils import INF, floatToGoString

Kind = Literal["counter", "gauge", "histogram"]
# Of a gauge the figures of processes that live are added up.
FILES: Mapping[Kind, str] = {
    "counter": "counter",
    "gauge": "gauge_livesum",
    "histogram": "histogram",
}


PREFIX = "dropcast-metrics-"
NEW_SECONDS = 60.0


@dataclass(frozen=True)
class Family:
    """Figures of one name that differ in their labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class _File(MmapedDict):
    """A file that shows where its numbers are: to write one there takes a tenth of the time that
    finding it by its key takes."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._views: dict[mmap, memoryview[float]] = {}

    def place(self, key: str) -> tuple[memoryview[float], int]:
        """The number of that key, 0.0 if it is new, among those of the file. A file that grows is
        mapped once more, and what is written by the first mapping is seen by both."""
        self.read_value(key)
        numbers = self._views.get(self._m)
        if numbers is None:
            numbers = self._views[self._m] = memoryview(self._m).cast("d")
        return numbers, self._positions[key] // numbers.itemsize

    def close(self) -> None:
        for numbers in self._views.values():
            numbers.release()
        super().close()


class Cell:
    """One number; only one thread may write it."""

    __slots__ = ("_at", "_numbers", "_value")

    def __init__(self, numbers: memoryview[float], at: int) -> None:
        self._numbers, self._at = numbers, at
        self._value: float = numbers[at]

    def add(self, amount: float = 1.0) -> None:
        self._value += amount
        self._numbers[self._at] = self._value

    def set(self, value: float) -> None:
        if value != self._value:
            self._value = value
            self._numbers[self._at] = value


class Histogram:
    """How many values lay in which bucket, and their sum."""

    __slots__ = ("_bounds", "_cells", "_sum")

    def __init__(self, bounds: Sequence[float], cells: Sequence[Cell], total: Cell) -> None:
        self._bounds, self._cells, self._sum = bounds, cells, total

    def observe(self, value: float) -> None:
        self._cells[bisect_left(self._bounds, value)].add()
        self._sum.add(value)

    def observe_all(self, values: np.ndarray) -> None:
        """The same for each of (N,) values."""
        if len(values) == 1:
            self.observe(float(values[0]))
            return
        places, counts = np.unique(np.searchsorted(self._bounds, values), return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            self._cells[place].add(count)
        self._sum.add(float(values.sum()))


class Figures:
    """The figures of this process, and the way to those of all that share the folder.

    Without a folder it is a new one, which goes with this object.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            _sweep()
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._slot, self._lock = _take_slot(folder)
        mark_process_dead(self._slot, folder)
        self._files: dict[Kind, _File] = {
            kind: _File(str(folder / f"{prefix}_{self._slot}.db")) for kind, prefix in FILES.items()
        }

    def cell(self, family: Family, *labels: str) -> Cell:
        """The counter or gauge with these labels; at 0 if nothing was counted yet."""
        suffix = "_total" if family.kind == "counter" else ""
        return self._cell(family, suffix, family.labels, labels)

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """The histogram with these labels."""
        names = (*family.labels, "le")
        cells = [
            self._cell(family, "_bucket", names, (*labels, floatToGoString(bound)))
            for bound in (*family.buckets, INF)
        ]
        return Histogram(family.buckets, cells, self._cell(family, "_sum", family.labels, labels))

    def collect(self) -> list[Metric]:
        """The sums over all processes."""
        self.processes()
        return list(MultiProcessCollector(None, str(self._folder)).collect())

    def processes(self) -> list[tuple[str, int]]:
        """Slot and process id of each process that lives; gauges of the others are gone then."""
        living = []
        for path in sorted(self._folder.glob("*.lock")):
            lock = None if path.stem == self._slot else _lock(self._folder, path.stem)
            if lock is not None:
                with lock:
                    mark_process_dead(path.stem, self._folder)
            elif pid := path.read_text():
                living.append((path.stem, int(pid)))
        return living

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._lock.close()

    def _cell(
        self, family: Family, suffix: str, names: Sequence[str], values: Sequence[str]
    ) -> Cell:
        key = mmap_key(family.name, family.name + suffix, [*names], [*values], family.help)
        return Cell(*self._files[family.kind].place(key))


def _sweep() -> None:
    """Removes what processes that were killed have left of folders of their own."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime < NEW_SECONDS:
                continue  # Its process may be about to lock it.
            locks = [_lock(folder, path.stem) for path in folder.glob("*.lock")]
        except OSError:
            continue  # Another's, or gone.
        if None not in locks:
            shutil.rmtree(folder, ignore_errors=True)
        for lock in locks:
            if lock is not None:
                lock.close()


def _take_slot(folder: Path) -> tuple[str, IO[str]]:
    """The first slot that no living process has, and the lock that keeps it."""
    number = 0
    while True:
        lock = _lock(folder, str(number))
        if lock is not None:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            return str(number), lock
        number += 1


def _lock(folder: Path, slot: str) -> IO[str] | None:
    """A slot's lock, or None if a process holds it."""
    file = (folder / f"{slot}.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
