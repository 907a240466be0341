"""Child processes that are kept running: one that ends is started again, until it shall end."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable

from service.processes import NAME_TAKEN, STOP_SECONDS, end, lock_name, start_child
from service.settings import Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = 2.0


class Kept:
    """One child, running from now on. `start` starts it, also again.

    When it has ended unasked, `on_end` is told its exit code, in a thread of this object, before
    it is started again; `closing` is set once it shall not be.
    """

    def __init__(
        self,
        start: Callable[[], subprocess.Popen[bytes]],
        on_end: Callable[[int, threading.Event], None],
    ) -> None:
        self._start = start
        self._on_end = on_end
        self._closing = threading.Event()
        self._child = start()
        self._thread = threading.Thread(target=self._keep, name="keep-child", daemon=True)
        self._thread.start()

    def signal(self, number: int) -> None:
        """Sends the child a signal that ends it for good."""
        self._closing.set()
        self._child.send_signal(number)

    def close(self, grace_seconds: float) -> None:
        """Ends the child, gently at first."""
        self._closing.set()
        end(self._child, grace_seconds)
        self._thread.join()

    def _keep(self) -> None:
        while True:
            code = self._child.wait()
            if self._closing.is_set():
                return
            self._on_end(code, self._closing)
            if self._closing.wait(RESTART_SECONDS):
                return
            self._child = self._start()
            if self._closing.is_set():
                # Whoever closes may have seen only the one before.
                self._child.terminate()


class KeptWorker:
    """The worker beside an API, here or, of the same name, in another's care."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        arguments = ["worker", "--with-parent"]
        self._kept = Kept(lambda: start_child("service.cli", arguments), self._ended)

    def close(self) -> None:
        """Ends it, with time to hand its jobs over."""
        self._kept.close(STOP_SECONDS)

    def _ended(self, code: int, closing: threading.Event) -> None:
        if code != NAME_TAKEN:
            log.error("the worker ended with code %d and is started again", code)
            return
        log.warning("another process has the worker of this home, which runs the jobs")
        while not closing.wait(RESTART_SECONDS):
            lock = lock_name(self._settings.home, self._settings.worker_id)
            if lock is not None:
                lock.close()
                return
