"""Training jobs as those see them that run them.

`attempt` fences: each run carries the number it began with, and a run whose number is no
longer the row's has lost the job and may not write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database, now, take_turn
from service.job_order import Devices, Waiting, in_turn
from service.job_rows import finish, get_job, queue_again, record
from service.promotion import Verdict
from service.registry import Registry
from service.tables import Job, WorkerRow


class LostJobError(Exception):
    """Another attempt has the job, or it was cancelled; this run has to stop."""


@dataclass(frozen=True)
class Lease:
    """The right to run a job: good as long as the job's row has this attempt."""

    job: str
    attempt: int
    device: str
    worker: str


@dataclass(frozen=True)
class Report:
    """One event, before it has a number."""

    type: str
    message: str
    level: str = "info"
    data: Mapping[str, Any] = field(default_factory=dict)


class JobRuns:
    """Taking up a job, reporting, and its end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> Job:
        """That job."""
        with self._database.read() as session:
            return get_job(session, job_id)

    def claim(self, worker: str, devices: Devices) -> Lease | None:
        """The queued job whose turn it is, running from now on under that worker's name; None if
        there is none, or none that has room on this machine's devices."""
        with self._database.read() as session:
            if session.scalar(sa.select(Job.id).where(Job.status == "queued").limit(1)) is None:
                return None
        with self._database.write() as session:
            take_turn(session, "claims")
            used = _used_devices(session, worker)
            for waiting in _in_turn(session):
                device = devices.place(waiting.device, used)
                if device is None:
                    continue
                job = get_job(session, waiting.id, lock=True)
                if job.status != "queued":
                    continue
                job.status = "running"
                job.worker, job.device = worker, device
                job.claimed_at = now()
                job.started_at = job.started_at or job.claimed_at
                record(session, job, "status", "running", worker=worker, device=device)
                return Lease(job.id, job.attempt, device, worker)
        return None

    def give_back(self, lease: Lease, why: str) -> None:
        """Queues the job again, if the lease still holds."""
        with self._database.write() as session:
            job = get_job(session, lease.job, lock=True)
            if _runs(lease, job) and job.cancel_requested:
                finish(session, job, "cancelled")
            elif _runs(lease, job):
                queue_again(session, job, why)

    def is_lost(self, lease: Lease) -> bool:
        """Whether that attempt has to stop: cancelled, or no longer the one that runs."""
        with self._database.read() as session:
            return not _holds(lease, get_job(session, lease.job))

    def report(
        self,
        lease: Lease,
        events: Sequence[Report],
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Records what a running attempt says, and how far it is.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, lease)
            if progress is not None:
                job.progress = dict(progress)
            for event in events:
                record(session, job, event.type, event.message, level=event.level, **event.data)

    def reserve_version(self, registry: Registry, lease: Lease) -> int:
        """The version number that the job will publish, the same however often it is asked.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, lease)
            if job.version is None:
                job.version = registry.reserve_version(session, job.model)
            return job.version

    def publish(
        self,
        registry: Registry,
        lease: Lease,
        card: Mapping[str, Any],
        verdict: Verdict,
    ) -> dict[str, Any]:
        """Makes the placed artifact a version and the job succeeded, both or neither, and gives
        the job's result.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, lease)
            assert job.version is not None
            model = job.model
            promote, reason = verdict.promote, verdict.reason
            present = registry.production(session, model)
            if promote and verdict.is_comparison and present != verdict.rival:
                promote = False
                reason = f"production moved to version {present} while this one was compared"
            told = {**card, "promotion": reason}
            registry.add_version(session, model, job.version, told, promote=promote)
            job.metrics = dict(card["metrics"])
            job.result = {
                "model": model,
                "version": job.version,
                "promoted": promote,
                "promotion": reason,
                "comparison": verdict.comparison,
            }
            finish(session, job, "succeeded", result=job.result)
        return job.result

    def fail(self, lease: Lease, error: Mapping[str, Any]) -> None:
        """Ends a running attempt with an error; nothing, if it does not run the job."""
        with self._database.write() as session:
            job = get_job(session, lease.job, lock=True)
            if _holds(lease, job):
                finish(session, job, "failed", error=error)

    def end_cancelled(self, lease: Lease) -> None:
        """Ends an attempt that was told to; nothing, if the job has gone on without it."""
        with self._database.write() as session:
            job = get_job(session, lease.job, lock=True)
            if _runs(lease, job) and job.cancel_requested:
                finish(session, job, "cancelled")

    def _running(self, session: Session, lease: Lease) -> Job:
        job = get_job(session, lease.job, lock=True)
        if not _holds(lease, job):
            raise LostJobError(lease.job)
        return job


def _runs(lease: Lease, job: Job) -> bool:
    return job.attempt == lease.attempt and job.status == "running"


def _holds(lease: Lease, job: Job) -> bool:
    return _runs(lease, job) and not job.cancel_requested


def _in_turn(session: Session) -> list[Waiting]:
    query = sa.select(Job.number, Job.id, Job.model, Job.request).where(Job.status == "queued")
    waiting = [
        Waiting(row.number, row.id, row.model, row.request["device"])
        for row in session.execute(query)
    ]
    models = {job.model for job in waiting}
    served = sa.select(Job.model, sa.func.max(Job.claimed_at))
    served = served.where(Job.model.in_(models), Job.claimed_at.is_not(None)).group_by(Job.model)
    return in_turn(waiting, {model: at for model, at in session.execute(served) if at})


def _used_devices(session: Session, worker: str) -> Counter[str]:
    """How many jobs use each device of the worker's machine, whichever worker runs them."""
    host = sa.select(WorkerRow.host).where(WorkerRow.id == worker).scalar_subquery()
    here = sa.select(WorkerRow.id).where(WorkerRow.host == host)
    query = sa.select(Job.device).where(Job.status == "running", Job.worker.in_(here))
    return Counter(device for device in session.scalars(query) if device)
