"""A job's row and its events, inside the caller's transaction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import now
from service.errors import NotFoundError
from service.tables import Job, JobEvent

FINISHED = ("succeeded", "failed", "cancelled")


def get_job(session: Session, job_id: str, *, lock: bool = False) -> Job:
    query = sa.select(Job).where(Job.id == job_id)
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise NotFoundError(f"there is no training job {job_id[:64]!r}")
    return job


def queue_again(session: Session, job: Job, why: str, *, level: str = "info") -> None:
    """Under the next attempt's number: whoever still runs the job has lost it."""
    job.status = "queued"
    job.attempt += 1
    job.worker = job.device = None
    record(session, job, "status", f"queued again: {why}", level=level, attempt=job.attempt)


def finish(session: Session, job: Job, status: str, **data: Any) -> None:
    job.status = status
    job.device = None
    job.finished_at = now()
    job.error = data.get("error")
    level = "error" if status == "failed" else "info"
    message = job.error["message"] if job.error else status
    record(session, job, "status", message, level=level, status=status, **data)


def record(
    session: Session, job: Job, kind: str, message: str, *, level: str = "info", **data: Any
) -> None:
    """Adds an event; the job's row is locked by now, so ids follow the order of commits."""
    job.last_event += 1
    if kind == "status":
        data.setdefault("status", job.status)
    session.add(
        JobEvent(
            job=job.id,
            id=job.last_event,
            type=kind,
            level=level,
            message=message,
            data=data,
            created_at=now(),
        )
    )
