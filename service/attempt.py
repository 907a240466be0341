"""One attempt at a training job: check, prepare, train, calibrate, publish.

A step can be run again, and is, for as long as the database does not answer. Whatever it
writes is taken only while its lease holds.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from service.checkpoints import open_folder
from service.database import OUTAGES
from service.datasets import Datasets
from service.errors import NotFoundError
from service.job_runs import JobRuns, Lease, LostJobError, Report
from service.processes import machine_memory
from service.promotion import Verdict
from service.registry import Registry
from service.rivals import describe_rival
from service.settings import Settings
from service.tables import Dataset, Job
from service.trainer_process import TrainerDiedError, TrainerProcess

log = logging.getLogger(__name__)

T = TypeVar("T")

# How often a running job writes what it has to report and looks whether it was cancelled.
LOOK_SECONDS = 0.25
LOG_SECONDS = 2.0
RETRY_SECONDS = 1.0
# A training process that dies is started again, so often without getting any further: one that
# always dies at the same place is the job's own fault.
MOST_DEATHS = 5
STAGES = ("prepare", "train", "calibrate")
MEMORY_SHARE = 0.8


class _JobError(Exception):
    """The job fails, for a reason that its client is told."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.error = {"code": code, "message": message, "param": param}
        super().__init__(message)


class _StoppedError(Exception):
    """The worker goes down; what happens to the child then is no outcome."""


class Attempt:
    """Runs the steps in order, until the job has ended, is lost, or `stopping` is set."""

    def __init__(
        self,
        lease: Lease,
        settings: Settings,
        runs: JobRuns,
        registry: Registry,
        datasets: Datasets,
        stopping: threading.Event,
    ) -> None:
        self.lease = lease
        self._id = lease.job
        self._settings = settings
        self._runs = runs
        self._registry = registry
        self._datasets = datasets
        self._stopping = stopping
        self._folder = self._own = settings.job_folder / lease.job
        self._most_memory = settings.max_job_memory_bytes or int(MEMORY_SHARE * machine_memory())
        self._child: TrainerProcess | None = None
        self._deaths = 0
        self._furthest: tuple[int, ...] = ()
        self._started = time.monotonic()

    def run(self) -> None:
        """Takes the job to its end; raises nothing."""
        try:
            self._insist(self._check)
            for stage in STAGES:
                result = self._compute(stage)
            self._insist(lambda: self._publish(result["card"], Verdict(**result["verdict"])))
        except _StoppedError:
            return
        except LostJobError:
            self._end(lambda: self._runs.end_cancelled(self.lease))
            log.info("%s: attempt %d has stopped", self._id, self.lease.attempt)
        except _JobError as failure:
            error = failure.error
            log.info("%s failed: %s", self._id, failure)
            self._end(lambda: self._runs.fail(self.lease, error))
        except Exception:
            log.exception("%s broke", self._id)
            message = "the job broke inside the worker, whose log says how: resume it"
            error = {"code": "internal", "message": message, "param": None}
            self._end(lambda: self._runs.fail(self.lease, error))
        finally:
            self.close()

    def hand_over(self) -> None:
        """Lets the child write a last checkpoint and end."""
        if self._child is not None:
            self._child.hand_over()

    def kill(self) -> None:
        """Ends the child at once; from another thread."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> str:
        """Ends the child; how it did."""
        child, self._child = self._child, None
        return "" if child is None else child.close()

    def _end(self, write: Callable[[], object]) -> None:
        """Stops computing, then says so, and clears up if there is nothing to resume."""
        self.close()
        try:
            self._insist(write)
            if self._insist(self._read).status == "succeeded":
                shutil.rmtree(self._folder, ignore_errors=True)
        except _StoppedError:
            return

    def _insist(self, step: Callable[[], T]) -> T:
        """What the step gives, once the database answers."""
        while True:
            try:
                return step()
            except OUTAGES as error:
                log.warning("%s waits for the database: %s", self._id, _first_line(error))
            if self._stopping.wait(RETRY_SECONDS):
                raise _StoppedError

    def _read(self) -> Job:
        return self._runs.get(self._id)

    def _check(self) -> Dataset:
        if self._runs.is_lost(self.lease):
            raise LostJobError(self._id)
        try:
            return self._datasets.get(self._read().dataset)
        except NotFoundError as error:
            raise _JobError("dataset_deleted", str(error), "dataset") from error

    def _compute(self, stage: str) -> dict[str, Any]:
        """What the child gives for the stage; one that dies is started again."""
        while True:
            try:
                if self._child is None:
                    specification = self._insist(self._specify)
                    self._child = TrainerProcess(specification)
                self._child.compute(stage)
                return self._follow(self._child, stage)
            except TrainerDiedError as death:
                if self._stopping.is_set():
                    raise _StoppedError from death
                self._deaths += 1
                if self._deaths > MOST_DEATHS:
                    raise _JobError(
                        "trainer_died",
                        f"the training process ended {death}, as it did {MOST_DEATHS} times "
                        "before: the worker's log may say why, and so may the system's if memory "
                        "ran out; resume the job to go on from its last checkpoint",
                    ) from death
                message = f"the training process ended {death} and is started again"
                log.warning("%s: %s", self._id, message)
                report = [Report("log", message, "warning")]
                self._insist(lambda: self._runs.report(self.lease, report))  # noqa: B023

    def _publish(self, card: dict[str, Any], verdict: Verdict) -> None:
        version = self._runs.reserve_version(self._registry, self.lease)
        model = self._read().model
        self._registry.place_artifact(
            self._own / "artifact", model, version, card["artifact_sha256"]
        )
        result = self._runs.publish(self._registry, self.lease, card, verdict)
        shutil.rmtree(self._folder, ignore_errors=True)
        fate = "promoted" if result["promoted"] else "not promoted"
        reason = result["promotion"]
        log.info("%s: published %s version %d, %s: %s", self._id, model, version, fate, reason)

    def _specify(self) -> dict[str, Any]:
        """What the child is told of its job."""
        dataset, job = self._check(), self._read()
        rival = None
        if job.request["promote"] == "if_better":
            rival = describe_rival(job.model, self._registry, self._runs, self._datasets)
        self._own = open_folder(self._folder, self.lease.attempt, self.lease.device)
        return {
            "id": self._id,
            "request": job.request,
            "file": str(self._datasets.path(dataset.sha256)),
            "format": dataset.format,
            "dataset_sha256": dataset.sha256,
            "folder": str(self._own),
            "rival": rival,
            "checkpoint_seconds": self._settings.checkpoint_seconds,
            "device": self.lease.device,
            "threads": self._settings.threads,
            "log_level": self._settings.log_level,
            "log_format": self._settings.log_format,
        }

    def _follow(self, child: TrainerProcess, stage: str) -> dict[str, Any]:
        """Passes on what the child reports, until the stage ends one way or another."""
        reports: list[Report] = []
        progress: dict[str, Any] | None = None
        outcome: dict[str, Any] | None = None
        reported = logged = time.monotonic()
        while outcome is None or reports:
            for message in child.hear(LOOK_SECONDS):
                if "type" not in message:
                    outcome = message
                    continue
                if message["type"] != "epoch":
                    log.info("%s: %s", self._id, message["message"])
                reports.append(_report(message))
                progress = message.get("progress", progress)
                self._note(stage, message.get("data", {}))
            if time.monotonic() - logged > LOG_SECONDS and reports and reports[-1].type == "epoch":
                logged = time.monotonic()
                log.info("%s: %s", self._id, _one_line(reports[-1], progress))
            is_over = outcome is not None or child.is_silent
            if is_over or time.monotonic() - reported >= LOOK_SECONDS:
                reported = time.monotonic()
                if self._tell(reports, progress):
                    reports = []
            if child.is_silent and outcome is None:
                raise TrainerDiedError(self.close())
            self._limit(child)
        if "failed" in outcome:
            raise _JobError(**outcome["failed"])
        return dict(outcome["done"])

    def _note(self, stage: str, data: dict[str, Any]) -> None:
        """Forgets the deaths of the child once it has got further than ever."""
        place = (STAGES.index(stage), *(data.get(key, 0) for key in ("fold", "epoch", "trial")))
        if place > self._furthest:
            self._furthest, self._deaths = place, 0

    def _tell(self, reports: list[Report], progress: dict[str, Any] | None) -> bool:
        """Writes reports and looks whether to go on; False if the database does not answer."""
        try:
            if reports:
                self._runs.report(self.lease, reports, progress)
            elif self._runs.is_lost(self.lease):
                raise LostJobError(self._id)
        except OUTAGES as error:
            log.warning("%s goes on without the database: %s", self._id, _first_line(error))
            if self._stopping.wait(RETRY_SECONDS):
                raise _StoppedError from error
            return False
        return True

    def _limit(self, child: TrainerProcess) -> None:
        if time.monotonic() - self._started > self._settings.max_job_seconds:
            limit = f"{self._settings.max_job_seconds:g} s"
            raise _JobError("time_limit", f"the job ran longer than the {limit} allowed")
        if child.resident_bytes() > self._most_memory:
            raise _JobError(
                "out_of_memory",
                f"the job needed more than the {self._most_memory / 1e6:,.0f} MB of memory that "
                "one job may use: try a smaller batch_size or hidden, or fewer rows or columns",
            )


def _report(message: dict[str, Any]) -> Report:
    level, data = message.get("level", "info"), message.get("data", {})
    return Report(message["type"], message["message"], level, data)


def _one_line(report: Report, progress: dict[str, Any] | None) -> str:
    if progress is None:
        return report.message
    left = progress["eta_seconds"]
    share = f"{100 * progress['fraction']:.0f} % of {progress['epochs']} epochs"
    return f"{report.message}, {share}" + ("" if left is None else f", {left:.0f} s left")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
