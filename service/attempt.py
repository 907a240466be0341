"""One attempt at a training job: the steps of its workflow, and the child that computes them.

Every step can be run again. A step returns {"done": …}, {"failed": error} or {"lost": true};
it raises nothing that is the job's own fault, so that DBOS records only outcomes.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy.exc import InterfaceError, OperationalError

from service.database import Job
from service.datasets import Datasets
from service.errors import NotFoundError
from service.job_runs import JobRuns, LostJobError, Report
from service.processes import end, start_child
from service.promotion import Verdict
from service.registry import PRODUCTION, Registry
from service.settings import Settings

log = logging.getLogger(__name__)

Outcome = dict[str, Any]

# How often a running job writes what it has to report and looks whether it was cancelled.
LOOK_SECONDS = 0.25
LOG_SECONDS = 2.0


class Attempt:
    """Runs the steps in order; `stopping` means that the worker is going down, and that
    whatever happens to the child then is no outcome."""

    def __init__(
        self,
        job_id: str,
        number: int,
        settings: Settings,
        runs: JobRuns,
        registry: Registry,
        datasets: Datasets,
        stopping: threading.Event,
    ) -> None:
        self._id = job_id
        self._number = number
        self._settings = settings
        self._runs = runs
        self._registry = registry
        self._datasets = datasets
        self._stopping = stopping
        self._folder = settings.home / "jobs" / job_id
        self._child: subprocess.Popen[bytes] | None = None
        self._began = False
        self._started = time.monotonic()

    @property
    def steps(self) -> list[tuple[str, Callable[[Any], Outcome]]]:
        """Names and functions; each is given what the one before has "done"."""
        return [
            ("check", self._check),
            ("prepare", lambda _: self._compute("prepare")),
            ("train", lambda _: self._compute("train")),
            ("calibrate", lambda _: self._compute("calibrate")),
            ("publish", self._publish),
        ]

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            end(self._child, grace_seconds=0.0)

    def _check(self, _: Any) -> Outcome:
        try:
            self._runs.begin(self._id, self._number, self._settings.worker_id)
            self._began = True
            self._datasets.get(self._runs.get(self._id).dataset)
        except LostJobError:
            return {"lost": True}
        except NotFoundError as error:
            return _failed("dataset_deleted", str(error), "dataset")
        return {"done": {}}

    def _compute(self, stage: str) -> Outcome:
        try:
            child = self._running_child()
            assert child.stdin is not None
            child.stdin.write(orjson.dumps({"stage": stage}) + b"\n")
            child.stdin.flush()
            return self._follow(child)
        except LostJobError:
            self.close()
            return {"lost": True}
        except NotFoundError as error:
            return _failed("dataset_deleted", str(error), "dataset")
        except BrokenPipeError:
            return self._died(self._child)

    def _publish(self, calibrated: dict[str, Any]) -> Outcome:
        try:
            version = self._runs.reserve_version(self._registry, self._id, self._number)
            model = self._runs.get(self._id).request["model"]
            card = calibrated["card"]
            self._registry.place_artifact(
                self._folder / "artifact", model, version, card["artifact_sha256"]
            )
            verdict = Verdict(**calibrated["verdict"])
            result = self._runs.publish(self._registry, self._id, self._number, card, verdict)
        except LostJobError:
            return {"lost": True}
        shutil.rmtree(self._folder, ignore_errors=True)
        fate = "promoted" if result["promoted"] else "not promoted"
        log.info(
            "%s: published %s version %d, %s: %s",
            self._id,
            model,
            version,
            fate,
            result["promotion"],
        )
        return {"done": {}}

    def _running_child(self) -> subprocess.Popen[bytes]:
        """The child, started and told its job if this is the first stage in this process."""
        if self._child is None:
            job = self._runs.get(self._id)
            if not self._began:
                message = "taken up again after an interruption"
                log.info("%s: %s", self._id, message)
                self._runs.report(self._id, self._number, [Report("log", message, "warning")])
            self._folder.mkdir(parents=True, exist_ok=True)
            self._child = start_child("service.trainer", talks=True)
            assert self._child.stdin is not None
            self._child.stdin.write(orjson.dumps(self._specification(job)) + b"\n")
        return self._child

    def _specification(self, job: Job) -> dict[str, Any]:
        dataset = self._datasets.get(job.dataset)
        device = job.request["device"]
        rival = self._registry.find_artifact(job.request["model"], PRODUCTION)
        return {
            "id": self._id,
            "request": job.request,
            "file": str(self._datasets.path(dataset.sha256)),
            "format": dataset.format,
            "dataset_sha256": dataset.sha256,
            "folder": str(self._folder),
            "rival": None if rival is None else {"version": rival[0], "folder": str(rival[1])},
            "checkpoint_seconds": self._settings.checkpoint_seconds,
            "device": self._settings.device if device == "auto" else device,
            "threads": self._settings.threads,
            "log_level": self._settings.log_level,
        }

    def _follow(self, child: subprocess.Popen[bytes]) -> Outcome:
        """Passes on what the child reports, until the stage ends one way or another."""
        lines = _Lines(child)
        reports: list[Report] = []
        progress: dict[str, Any] | None = None
        logged = 0.0
        while True:
            outcome: Outcome | None = None
            for message in lines.read(LOOK_SECONDS):
                if "type" not in message:
                    outcome = message
                    continue
                if message["type"] != "epoch":
                    log.info("%s: %s", self._id, message["message"])
                reports.append(
                    Report(
                        message["type"],
                        message["message"],
                        message.get("level", "info"),
                        message.get("data", {}),
                    )
                )
                progress = message.get("progress", progress)
            is_due = time.monotonic() - logged > LOG_SECONDS
            if is_due and reports and reports[-1].type == "epoch":
                logged = time.monotonic()
                log.info("%s: %s", self._id, _one_line(reports[-1], progress))
            if self._report(reports, progress):
                reports.clear()
            if outcome is not None and not reports:
                return outcome
            if lines.ended and outcome is None:
                return self._died(child)
            if time.monotonic() - self._started > self._settings.max_job_seconds:
                self.close()
                limit = f"{self._settings.max_job_seconds:g} s"
                return _failed("time_limit", f"the job ran longer than the {limit} allowed")

    def _report(self, reports: list[Report], progress: dict[str, Any] | None) -> bool:
        """Writes reports and looks whether to go on; False if the database does not answer."""
        try:
            if reports:
                self._runs.report(self._id, self._number, reports, progress)
            elif self._runs.is_lost(self._id, self._number):
                raise LostJobError(self._id)
        except (OperationalError, InterfaceError) as error:
            log.warning(
                "%s goes on without the database, which does not answer: %s", self._id, error
            )
            return False
        return True

    def _died(self, child: subprocess.Popen[bytes] | None) -> Outcome:
        while self._stopping.is_set():
            # The worker is ending its children: no outcome, the step runs again another time.
            time.sleep(1.0)
        code = end(child, grace_seconds=1.0) if child is not None else 0
        how = f"with code {code}"
        if code < 0:
            how = f"by signal {signal.Signals(-code).name}"
        return _failed(
            "trainer_died",
            f"the training process ended {how}: the worker's log may say why, and so may the "
            "system's if memory ran out; resume the job to go on from its last checkpoint",
        )


class _Lines:
    """A child's JSON lines, read with a time limit."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        self._pipe = child.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._rest = b""
        self.ended = False

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """What has come, after waiting at most so long for the first of it."""
        if not self._selector.select(seconds):
            return []
        chunk = os.read(self._pipe.fileno(), 1 << 20)
        self.ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [orjson.loads(line) for line in lines]


def _one_line(report: Report, progress: dict[str, Any] | None) -> str:
    if progress is None:
        return report.message
    left = progress["eta_seconds"]
    share = f"{100 * progress['fraction']:.0f} % of {progress['epochs']} epochs"
    return f"{report.message}, {share}" + ("" if left is None else f", {left:.0f} s left")


def _failed(code: str, message: str, param: str | None = None) -> Outcome:
    return {"failed": {"code": code, "message": message, "param": param}}
