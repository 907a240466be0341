"""A service on this machine's loopback, in processes of its own, for a benchmark to measure."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

READY_SECONDS = 180.0


class LocalService:
    """`dropcast serve` on that home; several may share one."""

    def __init__(self, home: Path, *, worker: bool = True, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._arguments = ["serve"] if worker else ["serve", "--no-worker"]
        chosen = {"home": str(home), "log_level": "warning", "examples": "false", **settings}
        self._environment = {
            **os.environ,
            "DROPCAST_PORT": str(self.port),
            **{f"DROPCAST_{name.upper()}": value for name, value in chosen.items()},
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=900.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self.seconds_to_start = 0.0

    def __enter__(self) -> Self:
        try:
            self.seconds_to_start = self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.client.close()

    @property
    def pid(self) -> int:
        """Of the API's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Seconds until /health/ready says so."""
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", *self._arguments], env=self._environment
        )
        return self._until("/health/ready")

    def until_trained(self) -> float:
        """Seconds until both example models are there."""
        return max(self._until(f"/v1/models/{name}") for name in ("concrete", "penguins"))

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def memory(self) -> dict[str, float]:
        """Megabytes of the API and of its worker."""
        found = {"API": resident(self.pid)}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (folder / "status").read_text()
                command = (folder / "cmdline").read_bytes()
                if f"PPid:\t{self.pid}\n" in status and b"worker" in command:
                    found["worker"] = resident(int(folder.name))
        return found

    def _until(self, path: str) -> float:
        while time.perf_counter() - self._started < READY_SECONDS:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get(path).status_code == 200:
                    return time.perf_counter() - self._started
            time.sleep(0.02)
        raise TimeoutError(path)


def resident(pid: int) -> float:
    """Megabytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
