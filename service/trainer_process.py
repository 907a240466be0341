"""A job's child process as its parent sees it: told stages, heard in JSON lines, watched, ended."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from service.processes import end, start_child


class TrainerDiedError(Exception):
    """The process ended by itself; the text says how."""


class TrainerProcess:
    """`service.trainer`, started and told its job."""

    def __init__(self, specification: Mapping[str, Any]) -> None:
        self._process = start_child("service.trainer", talks=True)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._rest = b""
        self.is_silent = False
        self._send(specification)

    def compute(self, stage: str) -> None:
        """Tells it what comes next."""
        self._send({"stage": stage})

    def hand_over(self) -> None:
        """Lets it write a last checkpoint and end."""
        self._send({"stop": True})

    def hear(self, seconds: float) -> list[dict[str, Any]]:
        """What it has said, after waiting at most so long for the first of it; `is_silent` from
        when it has closed its side."""
        if not self._selector.select(seconds):
            return []
        chunk = os.read(self._output, 1 << 20)
        self.is_silent = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [orjson.loads(line) for line in lines]

    def resident_bytes(self) -> int:
        """Its memory; 0 once it has ended."""
        with suppress(OSError, IndexError):
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return 0

    def kill(self) -> None:
        """Ends it at once, also from another thread; whoever hears it finds it silent."""
        self._process.kill()

    def close(self) -> str:
        """Ends it if it has not ended; how it did."""
        code = end(self._process, grace_seconds=0.0)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        # One that has ended is noticed where it is heard; one that was closed needs no telling.
        with suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(orjson.dumps(message) + b"\n")
            self._process.stdin.flush()
