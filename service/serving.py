"""`dropcast serve`: the API in this process, a worker beside it, and their orderly end."""

from __future__ import annotations

import gc
import logging
import resource
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service import examples
from service.app import create_app
from service.connections import limited
from service.job_rows import FINISHED
from service.jobs import Jobs
from service.keeping import KeptWorker
from service.listening import BACKLOG, listen, say_where, share
from service.settings import Settings
from service.tracing import TracingError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# How long another thread of Python's may hold up the event loop, each time that this has let go
# of the interpreter. Python's own 5 ms add up while answers are written into the database.
SWITCH_SECONDS = 0.0005


def run_service(settings: Settings, *, with_worker: bool, is_one_of_several: bool = False) -> int:
    """Serves until a signal; gives the exit code."""
    bound = share(settings.host, settings.port) if is_one_of_several else listen(settings)
    if bound is None:
        return 1
    # Uvicorn ends orderly at these signals, and then raises them again for whoever was there
    # before it: nobody, so that the worker can be ended orderly, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _allow_open_files(settings.max_connections)
    sys.setswitchinterval(SWITCH_SECONDS)
    ending = threading.Event()
    worker = KeptWorker(settings) if with_worker else None
    try:
        app = create_app(settings)
        app.state.database.migrate()
        if settings.examples:
            examples.submit(app.state.registry, app.state.datasets, app.state.jobs)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            loop="uvloop",
            backlog=BACKLOG,
            http=limited(settings.max_connections, settings.receive_seconds),
            ws="none",
            timeout_graceful_shutdown=int(settings.shutdown_seconds),
        )
        if not is_one_of_several:
            say_where(bound)
        if not app.state.inference.is_compiled:
            log.warning(
                "no compiled kernel: small requests take about twice as long. "
                "Install a C compiler, and Dropcast again"
            )
        threading.Thread(target=_tell_of_examples, args=(app.state.jobs, ending)).start()
        _Server(config, app, settings.drain_seconds).run(sockets=[bound])
    except TracingError as error:
        log.error("%s", error)
        return 1
    finally:
        ending.set()
        if worker is not None:
            worker.close()
    return 0


def _allow_open_files(n_connections: int) -> None:
    """So many, and as many again for all else, if this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * n_connections)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there to stay, all modules above all, no collection has to look through again.
        gc.collect()
        gc.freeze()

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
