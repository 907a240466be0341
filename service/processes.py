"""Child processes that never outlive their parent, and locks that die with their holder."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

# A worker that has not shown itself for so long is not well.
PULSE_SECONDS = 30.0
# How long the jobs of a worker that is stopped have for a last checkpoint, and the worker to end.
HANDOVER_SECONDS = 3.0
STOP_SECONDS = 8.0
# The exit code of a worker that finds another of its name at work.
NAME_TAKEN = os.EX_TEMPFAIL


def start_child(
    module: str,
    arguments: Sequence[str] = (),
    *,
    talks: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `python -m module`. Its standard input is a pipe that closes when this process
    ends, however it ends; with `talks` its standard output is a pipe as well. `environment`
    adds to this process's own.

    The child gets its own process group, so that a terminal's Ctrl-C reaches only the parent.
    """
    return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if talks else None,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )


def end_with_parent(on_line: Callable[[bytes], object] = lambda _: None) -> None:
    """In a child: hands each line of standard input to `on_line`, in a thread, and ends the
    process when the input closes."""

    def follow() -> None:
        rest = b""
        # Not through `sys.stdin`, whose lock a waiting thread would hold when the process ends.
        while chunk := os.read(0, 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(line)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="follow-parent", daemon=True).start()


def end(child: subprocess.Popen[bytes], grace_seconds: float) -> int:
    """Ends a child, gently at first, and gives its exit code."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def machine_memory() -> int:
    """Bytes that this machine has, or this container if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def lock_name(home: Path, worker_id: str) -> IO[str] | None:
    """The right to be the worker of that name, while the returned file is open; None if another
    process has it."""
    path = home / "workers" / f"{worker_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def pulse_file(home: Path, worker_id: str) -> Path:
    """The file that a worker touches as long as it is well."""
    return home / "workers" / f"{worker_id}.pulse"


def is_well(home: Path, worker_id: str) -> bool:
    """Whether that worker has shown itself lately."""
    try:
        return time.time() - pulse_file(home, worker_id).stat().st_mtime < PULSE_SECONDS
    except FileNotFoundError:
        return False


def exit_now() -> NoReturn:
    """Ends this process without waiting for its threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
