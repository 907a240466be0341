"""The process that runs training jobs, each in a thread here and a child that computes.

A job's row in the database is its lease. A worker claims one when it has room, and gives it
back when it is stopped; those of a worker that has vanished go back without it
(`failover.py`). Either way the next attempt goes on from the last checkpoint.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import NoReturn

from service.attempt import Attempt
from service.database import OUTAGES, Database
from service.datasets import Datasets
from service.failover import Failover, NameTakenError
from service.gpus import count_gpus
from service.job_order import Devices
from service.job_runs import JobRuns, Lease
from service.processes import HANDOVER_SECONDS, NAME_TAKEN, lock_name, pulse_file
from service.registry import Registry
from service.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25


class Worker:
    """Runs queued jobs until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._id = settings.worker_id
        self._database = Database(settings.database)
        self._registry = Registry(self._database, settings.home, settings.storage)
        self._runs = JobRuns(self._database)
        self._datasets = Datasets(self._database, settings.home, settings.storage)
        self._failover = Failover(self._database, self._id, settings.worker_lost_seconds)
        self._devices = Devices()
        self._stopping = threading.Event()
        self._working: dict[Attempt, threading.Thread] = {}

    def run(self) -> None:
        """Works until a signal; then hands its jobs over, to go on elsewhere or another time.

        Raises:
            SystemExit: another process is the worker of this name.
        """
        lock = lock_name(self._settings.home, self._id)
        if lock is None:
            self._refuse()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        self._database.migrate()
        self._failover.enter()
        n_gpus = 0 if self._settings.device == "cpu" else count_gpus()
        self._devices = Devices(self._settings.device, n_gpus, self._settings.gpu_slots)
        log.info("worker %s waits for training jobs", self._id)
        pulse = pulse_file(self._settings.home, self._id)
        while not self._stopping.is_set():
            pulse.touch()
            try:
                self._look()
            except OUTAGES as error:
                # Running jobs go on; the next look may succeed.
                log.error("cannot look for jobs: %s", error)
                self._stopping.wait(1.0)
            except NameTakenError:
                self._refuse()
            except Exception:
                log.exception("cannot look for jobs")
                self._stopping.wait(1.0)
            self._stopping.wait(LOOK_SECONDS)
        self._hand_over()
        lock.close()

    def _look(self) -> None:
        """Shows that this worker lives, and takes up jobs while there is room."""
        working = [attempt for attempt, thread in self._working.items() if thread.is_alive()]
        self._working = {attempt: self._working[attempt] for attempt in working}
        self._failover.beat([attempt.lease for attempt in working])
        while len(self._working) < self._settings.worker_concurrency:
            lease = self._runs.claim(self._id, self._devices)
            if lease is None:
                return
            self._start(lease)

    def _start(self, lease: Lease) -> None:
        attempt = Attempt(
            lease, self._settings, self._runs, self._registry, self._datasets, self._stopping
        )
        thread = threading.Thread(target=attempt.run, name=lease.job, daemon=True)
        self._working[attempt] = thread
        thread.start()

    def _hand_over(self) -> None:
        """Ends the computing of its jobs after a last checkpoint, and gives them back."""
        until = time.monotonic() + HANDOVER_SECONDS
        for attempt in self._working:
            attempt.hand_over()
        for attempt, thread in self._working.items():
            thread.join(max(0.0, until - time.monotonic()))
            attempt.kill()
        try:
            for attempt in self._working:
                self._runs.give_back(attempt.lease, f"{self._id} was stopped")
            self._failover.leave()
        except OUTAGES as error:
            # Whoever looks next finds them without their worker.
            log.warning("the jobs could not be handed over: %s", error)

    def _refuse(self) -> NoReturn:
        log.error(
            "a worker named %s runs here already: stop it, or give this one another "
            "DROPCAST_WORKER_ID",
            self._id,
        )
        raise SystemExit(NAME_TAKEN)
