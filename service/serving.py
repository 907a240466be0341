"""`dropcast serve`: the API in this process, a worker beside it, and their orderly end."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import subprocess
import threading
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service import examples
from service.app import create_app
from service.connections import limited
from service.database import Database
from service.job_rows import FINISHED
from service.jobs import Jobs
from service.keys import Keys
from service.processes import NAME_TAKEN, STOP_SECONDS, end, lock_name, start_child
from service.settings import Settings
from service.tracing import TracingError

log = logging.getLogger(__name__)

NO_KEYS = (
    "requests to {host} need a key, and there is none: make one with `dropcast keys create NAME`, "
    "or say with DROPCAST_KEYS=off that whoever reaches the port may do everything"
)
RESTART_SECONDS = 2.0
LOOK_SECONDS = 1.0


def run_service(settings: Settings, *, with_worker: bool) -> int:
    """Serves until a signal; gives the exit code."""
    if settings.needs_keys and not _has_keys(settings):
        log.error("%s", NO_KEYS.format(host=settings.host))
        return 1
    if not (settings.needs_keys or settings.is_on_loopback):
        log.warning("without keys: whoever reaches %s may do everything", settings.host)
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=2048)
    except OSError as error:
        log.error("cannot listen on %s:%d: %s", settings.host, settings.port, error)
        return 1
    # Uvicorn ends orderly at these signals, and then raises them again for whoever was there
    # before it: nobody, so that the worker can be ended orderly, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _allow_open_files(settings.max_connections)
    ending = threading.Event()
    keeper = _WorkerKeeper(settings) if with_worker else None
    try:
        app = create_app(settings)
        app.state.database.migrate()
        if settings.examples:
            examples.submit(app.state.registry, app.state.datasets, app.state.jobs)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http=limited(settings.max_connections, settings.receive_seconds),
            ws="none",
            timeout_graceful_shutdown=int(settings.shutdown_seconds),
        )
        address, port = listener.getsockname()[:2]
        log.info("Dropcast on http://%s:%d, its documentation at /docs", address, port)
        threading.Thread(target=_tell_of_examples, args=(app.state.jobs, ending)).start()
        _Server(config, app, settings.drain_seconds).run(sockets=[listener])
    except TracingError as error:
        log.error("%s", error)
        return 1
    finally:
        ending.set()
        if keeper is not None:
            keeper.close()
    return 0


def _allow_open_files(n_connections: int) -> None:
    """So many, and as many again for all else, if this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * n_connections)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _has_keys(settings: Settings) -> bool:
    database = Database(settings.database)
    try:
        database.migrate()
        return bool(Keys(database).ring())
    finally:
        database.close()


def _tell_of_examples(jobs: Jobs, ending: threading.Event) -> None:
    """Says that the example models are being trained, if they are, and when they are ready."""
    waiting, _ = jobs.page("queued", None, 100)
    running, _ = jobs.page("running", None, 100)
    ours = [job for job in waiting + running if job.request["metadata"].get("example")]
    if not ours:
        return
    names = " and ".join(sorted(job.request["model"] for job in ours))
    log.info("training the example models %s: about half a minute", names)
    while any(job.status not in FINISHED for job in ours):
        if ending.wait(LOOK_SECONDS):
            return
        ours = [jobs.get(job.id) for job in ours]
    if all(job.status == "succeeded" for job in ours):
        log.info("%s are ready: ask them as the README shows", names)
    else:
        log.error("%s: not both could be trained, GET /v1/training_jobs says why", names)


class _Server(uvicorn.Server):
    """Drains at SIGTERM: says not ready and ends live streams, goes on answering until load
    balancers have noticed, then waits for requests under way. A second signal skips the first
    wait, and so does Ctrl-C."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._drained_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.is_ready = False
        self._app.state.feed.stop()
        if sig == signal.SIGTERM and self._drained_at is None:
            self._drained_at = time.monotonic() + self._drain_seconds
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._drained_at is not None and time.monotonic() >= self._drained_at:
            self.should_exit = True
        return await super().on_tick(counter)


class _WorkerKeeper:
    """Keeps one worker process running, here or, of the same name, in another's care."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closing = threading.Event()
        self._child = self._start()
        self._thread = threading.Thread(target=self._keep, name="keep-worker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        end(self._child, grace_seconds=STOP_SECONDS)
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        return start_child("service.cli", ["worker", "--with-parent"])

    def _keep(self) -> None:
        while True:
            code = self._child.wait()
            if self._closing.is_set():
                return
            if code == NAME_TAKEN:
                log.warning("another process has the worker of this home, which runs the jobs")
                self._wait_for_name()
            else:
                log.error("the worker ended with code %d and is started again", code)
            if self._closing.wait(RESTART_SECONDS):
                return
            self._child = self._start()

    def _wait_for_name(self) -> None:
        while not self._closing.wait(RESTART_SECONDS):
            lock = lock_name(self._settings.home, self._settings.worker_id)
            if lock is not None:
                lock.close()
                return
