"""Servers of a benchmark: each a process, with all that it starts, on a port of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.environments import ROOT

START_SECONDS = 120.0
STOP_SECONDS = 20.0


class NotServingError(Exception):
    """A server did not come up; the text is the end of what it wrote."""


@contextmanager
def serving(
    command: Sequence[str | Path],
    port: int,
    path: str,
    body: bytes,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once a POST of that body is answered with 200; ended afterwards.

    Raises:
        NotServingError: it ended before, or took too long.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + START_SECONDS
            while not _answers(port, path, body):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise NotServingError(log.read().decode(errors="replace")[-1000:].strip())
                time.sleep(0.1)
            yield process
        finally:
            end_group(process)


def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that leads a session, and then those that it left behind in it."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(port: int, path: str, body: bytes) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
