"""`dropcast serve --workers N`: several API processes behind one port, and their orderly end.

Each is a whole service: it follows the registry by itself, and the kernel shares connections out
among them. What `/metrics` shows is counted in one folder, and whichever of them is asked adds it
up. This process only keeps them, and the worker, running.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import tempfile
import threading
from functools import partial
from types import FrameType

from service.figures import PREFIX
from service.keeping import Kept, KeptWorker
from service.listening import listen, say_where, share
from service.processes import start_child
from service.settings import Settings

log = logging.getLogger(__name__)

# Beyond the times that the settings give to a drain.
END_SECONDS = 5.0


def run_several(settings: Settings, *, with_worker: bool) -> int:
    """Serves until a signal; gives the exit code."""
    first = listen(settings)
    if first is None:
        return 1
    host, port = first.getsockname()[:2]
    first.close()
    # Keeps the address until the processes, which listen, are there, and when one is not.
    with share(host, port) as reserved:
        several = _Several(settings, port, with_worker=with_worker)
        say_where(reserved)
        return several.run()


class _Several:
    def __init__(self, settings: Settings, port: int, *, with_worker: bool) -> None:
        self._settings = settings
        self._ending = threading.Event()
        self._code = 0
        self._own_folder = None if settings.metrics_folder else tempfile.mkdtemp(prefix=PREFIX)
        # What options of the command line have said instead of the environment, too.
        self._environment = {
            "DROPCAST_HOST": settings.host,
            "DROPCAST_PORT": str(port),
            "DROPCAST_WORKERS": str(settings.workers),
            "DROPCAST_METRICS_FOLDER": str(settings.metrics_folder or self._own_folder),
        }
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._kept = [Kept(partial(self._start, i), self._ended) for i in range(settings.workers)]
        self._worker = KeptWorker(settings) if with_worker else None

    def run(self) -> int:
        self._ending.wait()
        settings = self._settings
        for kept in self._kept:
            kept.close(settings.drain_seconds + settings.shutdown_seconds + END_SECONDS)
        if self._worker is not None:
            self._worker.close()
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)
        return self._code

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = dict(self._environment)
        if number:
            # Once for all.
            environment["DROPCAST_EXAMPLES"] = "false"
        return start_child("service.cli", ["serve", "--with-parent"], environment=environment)

    def _ended(self, code: int, _: threading.Event) -> None:
        if code >= 0:
            # It has said why it cannot serve; another would say the same.
            self._code = code
            self._ending.set()
        else:
            log.error("an API process was ended by signal %d and is started again", -code)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        for kept in self._kept:
            kept.signal(number)
        self._ending.set()
