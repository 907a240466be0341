"""Training jobs as those see them that run them.

`attempt` fences: each run carries the number it began with, and a run whose number is no
longer the row's has lost the job and may not write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database, Job, now
from service.job_rows import FINISHED, finish, get_job, record
from service.promotion import Verdict
from service.registry import Registry


class LostJobError(Exception):
    """Another attempt has the job, or it was cancelled; this run has to stop."""


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

    def in_state(self, *statuses: str) -> list[tuple[str, int]]:
        """Jobs of these statuses with their attempt, oldest first."""
        with self._database.read() as session:
            query = sa.select(Job.id, Job.attempt).where(Job.status.in_(statuses))
            rows = session.execute(query.order_by(Job.number))
            return [(job_id, attempt) for job_id, attempt in rows]

    def begin(self, job_id: str, attempt: int, worker: str) -> None:
        """Makes the job running.

        Raises:
            LostJobError: it is not this attempt's to run.
        """
        with self._database.write() as session:
            job = get_job(session, job_id, lock=True)
            if job.attempt != attempt or job.status in FINISHED or job.cancel_requested:
                raise LostJobError(job_id)
            if job.status == "queued":
                job.status = "running"
                job.started_at = job.started_at or now()
                record(session, job, "status", "running", worker=worker)

    def is_lost(self, job_id: str, attempt: int) -> bool:
        """Whether that attempt has to stop: cancelled, or no longer the one that runs."""
        with self._database.read() as session:
            job = get_job(session, job_id)
            return job.attempt != attempt or job.status != "running" or job.cancel_requested

    def report(
        self,
        job_id: str,
        attempt: int,
        events: Sequence[Report],
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Records what a running attempt says, and how far it is.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, job_id, attempt)
            if progress is not None:
                job.progress = dict(progress)
            for event in events:
                record(session, job, event.type, event.message, level=event.level, **event.data)

    def reserve_version(self, registry: Registry, job_id: str, attempt: int) -> int:
        """The version number that the job will publish, the same however often it is asked.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, job_id, attempt)
            if job.version is None:
                job.version = registry.reserve_version(session, job.request["model"])
            return job.version

    def publish(
        self,
        registry: Registry,
        job_id: str,
        attempt: int,
        card: Mapping[str, Any],
        verdict: Verdict,
    ) -> dict[str, Any]:
        """Makes the placed artifact a version and the job succeeded, both or neither, and gives
        the job's result.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, job_id, attempt)
            assert job.version is not None
            model = job.request["model"]
            promote, reason = verdict.promote, verdict.reason
            present = registry.production(session, model)
            if promote and verdict.is_comparison and present != verdict.rival:
                promote = False
                reason = f"production moved to version {present} while this one was compared"
            registry.add_version(session, model, job.version, card, promote=promote)
            job.metrics = dict(card["metrics"])
            job.result = {
                "model": model,
                "version": job.version,
                "promoted": promote,
                "promotion": reason,
            }
            finish(session, job, "succeeded", result=job.result)
        return job.result

    def fail(self, job_id: str, attempt: int, error: Mapping[str, Any]) -> None:
        """Ends a running attempt with an error; nothing, if it does not run the job."""
        with self._database.write() as session:
            job = get_job(session, job_id, lock=True)
            if job.attempt == attempt and job.status not in FINISHED:
                finish(session, job, "failed", error=error)

    def end_cancelled(self, job_id: str, attempt: int) -> None:
        """Ends an attempt that was told to; nothing, if the job has gone on without it."""
        with self._database.write() as session:
            job = get_job(session, job_id, lock=True)
            if job.attempt == attempt and job.status == "running" and job.cancel_requested:
                finish(session, job, "cancelled")

    def _running(self, session: Session, job_id: str, attempt: int) -> Job:
        job = get_job(session, job_id, lock=True)
        if job.attempt != attempt or job.status != "running" or job.cancel_requested:
            raise LostJobError(job_id)
        return job
