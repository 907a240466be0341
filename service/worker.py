"""The process that runs training jobs: a DBOS workflow for each, its computing in a child.

The database row of a queued job is the order; the worker hands it to DBOS under an id made
of job and attempt, so that it runs once however often it is handed over. DBOS remembers
which steps are done: a worker that died finds its jobs when it starts again under the same
`worker_id`, and each goes on at the step it was in, training from its last checkpoint.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from service.attempt import Attempt
from service.database import Database
from service.datasets import Datasets
from service.job_runs import JobRuns
from service.processes import NAME_TAKEN, lock_name, pulse_file
from service.registry import Registry
from service.settings import Settings

log = logging.getLogger(__name__)

QUEUE = "training"
# Which code may recover which workflows: raise it when the steps change.
WORKFLOW_VERSION = "1"
DISPATCH_SECONDS = 0.25
RECONCILE_SECONDS = 5.0
# How a workflow can end without a word to the job: it was not able to reach the database.
BROKEN = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


class Worker:
    """Runs queued jobs until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.database)
        self._registry = Registry(self._database, settings.home)
        self._runs = JobRuns(self._database)
        self._datasets = Datasets(self._database, settings.home)
        self._stopping = threading.Event()
        self._attempts: set[Attempt] = set()
        self._handed_over: set[tuple[str, int]] = set()
        self._reconciled = 0.0

    def run(self) -> None:
        """Works until a signal; then ends the computing of its jobs, which go on another time.

        Raises:
            SystemExit: another process is the worker of this name.
        """
        lock = lock_name(self._settings.home, self._settings.worker_id)
        if lock is None:
            log.error(
                "a worker named %s runs here already: stop it, or give this one another "
                "DROPCAST_WORKER_ID",
                self._settings.worker_id,
            )
            raise SystemExit(NAME_TAKEN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        self._database.migrate()
        self._launch()
        log.info("worker %s waits for training jobs", self._settings.worker_id)
        pulse = pulse_file(self._settings.home, self._settings.worker_id)
        while not self._stopping.is_set():
            try:
                pulse.touch()
                self._dispatch()
                self._reconcile()
            except Exception:
                # Running jobs go on; the next look may succeed.
                log.exception("cannot look for jobs")
                self._stopping.wait(1.0)
            self._stopping.wait(DISPATCH_SECONDS)
        self._stopping.set()
        for attempt in list(self._attempts):
            attempt.close()
        lock.close()

    def _launch(self) -> None:
        config: DBOSConfig = {
            "name": "dropcast",
            "system_database_url": self._settings.database,
            "executor_id": self._settings.worker_id,
            "application_version": WORKFLOW_VERSION,
            "log_level": "WARNING",
            "serializer": DBOSPortableJSONSerializer(),
        }
        DBOS(config=config)

        @DBOS.workflow(name="train")
        def train(job_id: str, attempt: int) -> None:
            self._train(job_id, attempt)

        self._workflow = train
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._settings.worker_concurrency,
            polling_interval_sec=DISPATCH_SECONDS,
        )

    def _dispatch(self) -> None:
        """Hands every queued job to DBOS, once for each attempt."""
        for job_id, attempt in self._runs.in_state("queued"):
            if (job_id, attempt) not in self._handed_over:
                with SetWorkflowID(_workflow_id(job_id, attempt)):
                    DBOS.enqueue_workflow(QUEUE, self._workflow, job_id, attempt)
                self._handed_over.add((job_id, attempt))

    def _reconcile(self) -> None:
        """Ends jobs whose workflow has ended without ending them."""
        if time.monotonic() - self._reconciled < RECONCILE_SECONDS:
            return
        self._reconciled = time.monotonic()
        for job_id, attempt in self._runs.in_state("queued", "running"):
            status = DBOS.get_workflow_status(_workflow_id(job_id, attempt))
            if status is not None and status.status in BROKEN:
                log.error("workflow of %s ended as %s: %s", job_id, status.status, status.error)
                message = "the job broke inside the worker, whose log says how: resume it"
                self._runs.fail(
                    job_id, attempt, {"code": "internal", "message": message, "param": None}
                )

    def _train(self, job_id: str, number: int) -> None:
        """The workflow. What comes next depends on nothing but what the steps return."""
        attempt = Attempt(
            job_id,
            number,
            self._settings,
            self._runs,
            self._registry,
            self._datasets,
            self._stopping,
        )
        self._attempts.add(attempt)
        try:
            outcome: dict[str, Any] = {}
            for name, step in attempt.steps:
                outcome = DBOS.run_step({"name": name}, step, outcome.get("done"))
                if "failed" in outcome:
                    self._runs.fail(job_id, number, outcome["failed"])
                    return
                if "lost" in outcome:
                    self._runs.end_cancelled(job_id, number)
                    log.info("%s: attempt %d stopped, the job was cancelled", job_id, number)
                    return
        finally:
            self._attempts.discard(attempt)
            attempt.close()


def _workflow_id(job_id: str, attempt: int) -> str:
    return f"{job_id}-{attempt}"
