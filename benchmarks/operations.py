"""What an operator asks first: seconds until it answers, and memory when idle."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

REPEATS = 5


def run(_: argparse.Namespace) -> None:
    """Prints start-up times and resident memory of a service with its two example models."""
    table = Table("what", "figure", title="Operations")
    with tempfile.TemporaryDirectory() as folder:
        service = _Service(Path(folder))
        first = service.start()
        table.add_row("first start: ready", f"{first:.1f} s")
        table.add_row("first start: both example models answer", f"{service.until_trained():.1f} s")
        service.stop()
        again = [_restart(service) for _ in range(REPEATS)]
        table.add_row(f"later starts: ready (median of {REPEATS})", f"{median(again):.1f} s")
        service.start()
        time.sleep(2.0)
        for name, resident in service.memory().items():
            table.add_row(f"idle memory of the {name} (resident)", f"{resident:.0f} MB")
        service.stop()
    imports = [_seconds(["-c", "import torch, fastapi"]) for _ in range(REPEATS)]
    table.add_row(
        f"later start against import torch, fastapi ({median(imports):.1f} s)",
        f"{median(again) / median(imports):.2f}×",
    )
    Console(width=100).print(table)


def _restart(service: _Service) -> float:
    seconds = service.start()
    service.stop()
    return seconds


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - started


class _Service:
    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._environment = {
            **os.environ,
            "DROPCAST_HOME": str(home),
            "DROPCAST_PORT": str(self._port),
            "DROPCAST_LOG_LEVEL": "warning",
        }
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}")
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> float:
        """Seconds until /health/ready says so."""
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve"], env=self._environment
        )
        return self._until("/health/ready")

    def until_trained(self) -> float:
        return max(self._until(f"/v1/models/{name}") for name in ("concrete", "penguins"))

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def memory(self) -> dict[str, float]:
        """Megabytes of the API and of its worker."""
        assert self._process is not None
        found = {"API": _resident(self._process.pid)}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (folder / "status").read_text()
                command = (folder / "cmdline").read_bytes()
                if f"PPid:\t{self._process.pid}\n" in status and b"worker" in command:
                    found["worker"] = _resident(int(folder.name))
        return found

    def _until(self, path: str) -> float:
        while time.perf_counter() - self._started < 180:
            with contextlib.suppress(httpx.TransportError):
                if self._client.get(path).status_code == 200:
                    return time.perf_counter() - self._started
            time.sleep(0.02)
        raise TimeoutError(path)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
