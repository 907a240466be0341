"""A large CSV over HTTP: seconds, and memory of the API beyond what it has when idle."""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.local_service import LocalService, resident

BLOCK_ROWS = 20_000
SAMPLE_SECONDS = 0.02
CHUNK_BYTES = 1 << 20


def run(arguments: argparse.Namespace) -> None:
    """Prints throughput and peak memory, raw body and multipart."""
    size = int(arguments.gigabytes * 1e9)
    table = Table(
        "body",
        "seconds",
        "MB/s",
        "idle MB",
        "peak MB",
        "above idle",
        title=f"{size / 1e6:.0f} MB of CSV",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        write_csv(path, size)
        for kind in ("raw", "multipart"):
            service = LocalService(Path(folder) / kind, worker=False)
            service.start()
            time.sleep(1.0)
            idle = resident(service.pid)
            with _Peak(service.pid) as peak:
                started = time.perf_counter()
                _send(service, path, kind)
                seconds = time.perf_counter() - started
            service.stop()
            table.add_row(
                kind,
                f"{seconds:.1f}",
                f"{size / 1e6 / seconds:.0f}",
                f"{idle:.0f}",
                f"{peak.megabytes:.0f}",
                f"{peak.megabytes - idle:.0f}",
            )
    Console(width=100).print(table)


def write_csv(path: Path, size: int) -> None:
    """A table of at least so many bytes: an identifier, numbers, whole numbers, texts."""
    rng = np.random.default_rng(0)
    cities = np.array(["Bern", "Oslo", "Ulm", "Rome"])
    number = 0
    with path.open("w") as file:
        file.write("id,age,income,height,weight,score,visits,city,note,target\n")
        while file.tell() < size:
            reals = rng.normal(100, 20, (BLOCK_ROWS, 6))
            wholes = rng.integers(0, 10**6, (BLOCK_ROWS, 2))
            places = cities[rng.integers(0, 4, BLOCK_ROWS)]
            for i in range(BLOCK_ROWS):
                a, b, c, d, e, y = reals[i].tolist()
                visits, word = wholes[i].tolist()
                file.write(
                    f"{number + i},{a:.3f},{b},{c:.5f},{d},{e},{visits},{places[i]},w{word},{y}\n"
                )
            number += BLOCK_ROWS


def _send(service: LocalService, path: Path, kind: str) -> None:
    head, tail, media_type = b"", b"", "text/csv"
    if kind == "multipart":
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="large.csv"\r\n\r\n'
        tail, media_type = b"\r\n--x--\r\n", "multipart/form-data; boundary=x"

    def body() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        yield tail

    response = service.client.post(
        "/v1/datasets?name=large", content=body(), headers={"content-type": media_type}
    )
    response.raise_for_status()
    assert response.json()["bytes"] == path.stat().st_size


class _Peak:
    """The most memory a process has while this is open, as looked at many times a second."""

    def __init__(self, pid: int) -> None:
        self.megabytes = 0.0
        self._pid = pid
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ending.wait(SAMPLE_SECONDS):
            self.megabytes = max(self.megabytes, resident(self._pid))
