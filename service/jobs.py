"""Training jobs as the database knows them.

A job's row is the promise made with the 202; whatever runs it (`worker.py`) only moves that
row along. `attempt` fences: each run carries the number it began with, and a run whose
number is no longer the row's has lost the job and may not write.
"""

from __future__ import annotations

import datetime as dt
import difflib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database, Dataset, Job, JobEvent, now, take_turn
from service.errors import ConflictError, InvalidError, NotFoundError, OverloadedError
from service.registry import Registry
from service.schemas import TrainingJobRequest

FINISHED = ("succeeded", "failed", "cancelled")


class LostJobError(Exception):
    """Another attempt has the job, or it was cancelled; this run has to stop."""


@dataclass(frozen=True)
class Report:
    """One event, before it has a number."""

    type: str
    message: str
    level: str = "info"
    data: Mapping[str, Any] = field(default_factory=dict)


class Jobs:
    """Submitting, watching, cancelling, resuming; and what a running attempt reports."""

    def __init__(self, database: Database, *, most_queued: int) -> None:
        self._database = database
        self._most_queued = most_queued

    # What clients ask for.

    def submit(self, request: TrainingJobRequest, idempotency_key: str | None = None) -> Job:
        """A queued job; with a key seen before, the job that came of it.

        Raises:
            NotFoundError: the dataset does not exist.
            InvalidError: the target is not one of its columns.
            ConflictError: the key belongs to a different request.
            OverloadedError: too many jobs wait already.
        """
        body = request.model_dump(mode="json")
        with self._database.write() as session:
            take_turn(session, "training jobs")
            if idempotency_key is not None:
                query = sa.select(Job).where(Job.idempotency_key == idempotency_key)
                known = session.scalar(query)
                if known is not None:
                    if known.request == body:
                        return known
                    raise ConflictError(
                        f"the Idempotency-Key was used for job {known.id}, whose request differs"
                    )
            _check_dataset(session, request)
            waiting = sa.select(sa.func.count()).where(Job.status == "queued")
            if (session.scalar(waiting) or 0) >= self._most_queued:
                message = f"{self._most_queued} training jobs wait already"
                raise OverloadedError(message, retry_after_seconds=30)
            job = Job(
                id=f"job_{uuid.uuid4().hex[:20]}",
                status="queued",
                attempt=1,
                dataset=request.dataset,
                request=body,
                idempotency_key=idempotency_key,
                cancel_requested=False,
                created_at=now(),
                last_event=0,
            )
            session.add(job)
            session.flush()
            _record(session, job, "status", "queued")
        return job

    def get(self, job_id: str) -> Job:
        """That job.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.read() as session:
            return _get(session, job_id)

    def page(self, status: str | None, after: str | None, limit: int) -> tuple[list[Job], bool]:
        """A page, newest first, and whether there are more."""
        with self._database.read() as session:
            query = sa.select(Job).order_by(Job.number.desc()).limit(limit + 1)
            if status is not None:
                query = query.where(Job.status == status)
            if after is not None:
                query = query.where(Job.number < _get(session, after).number)
            found = list(session.scalars(query))
        return found[:limit], len(found) > limit

    def events(
        self, job_id: str, *, after: int | None, limit: int, ascending: bool
    ) -> tuple[list[JobEvent], bool]:
        """A page of events; `after` is the last id of the page before."""
        with self._database.read() as session:
            _get(session, job_id)
            query = sa.select(JobEvent).where(JobEvent.job == job_id).limit(limit + 1)
            query = query.order_by(JobEvent.id if ascending else JobEvent.id.desc())
            if after is not None:
                query = query.where(JobEvent.id > after if ascending else JobEvent.id < after)
            found = list(session.scalars(query))
        return found[:limit], len(found) > limit

    def last_events(self, job_ids: list[str]) -> dict[str, int]:
        """The id of the newest event of each of these jobs."""
        with self._database.read() as session:
            query = sa.select(Job.id, Job.last_event).where(Job.id.in_(job_ids))
            return {row.id: row.last_event for row in session.execute(query)}

    def cancel(self, job_id: str) -> Job:
        """Ends a queued job at once; a running one is told to end.

        Raises:
            NotFoundError: there is none.
            ConflictError: it has succeeded or failed.
        """
        with self._database.write() as session:
            job = _get(session, job_id, lock=True)
            if job.status in ("succeeded", "failed"):
                raise ConflictError(f"{job_id} has {job.status} already")
            if job.status == "queued":
                _finish(session, job, "cancelled")
            elif job.status == "running" and not job.cancel_requested:
                job.cancel_requested = True
                _record(session, job, "log", "cancel requested")
        return job

    def resume(self, job_id: str) -> Job:
        """Queues a cancelled or failed job again; it goes on from its last checkpoint.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is in another state, or its dataset is gone.
        """
        with self._database.write() as session:
            take_turn(session, "training jobs")
            job = _get(session, job_id, lock=True)
            if job.status not in ("cancelled", "failed"):
                raise ConflictError(
                    f"{job_id} is {job.status}: only a cancelled or failed job resumes"
                )
            query = sa.select(Dataset.id).where(Dataset.id == job.dataset)
            if session.scalar(query) is None:
                raise ConflictError(f"{job_id} needs dataset {job.dataset}, which was deleted")
            job.status = "queued"
            job.attempt += 1
            job.cancel_requested = False
            job.error = None
            job.finished_at = None
            _record(session, job, "status", "queued again", attempt=job.attempt)
        return job

    # What a worker asks for.

    def in_state(self, status: str) -> list[tuple[str, int]]:
        """Jobs of that status with their attempt, oldest first."""
        with self._database.read() as session:
            query = sa.select(Job.id, Job.attempt).where(Job.status == status)
            rows = session.execute(query.order_by(Job.number))
            return [(job_id, attempt) for job_id, attempt in rows]

    def begin(self, job_id: str, attempt: int, worker: str) -> None:
        """Makes the job running.

        Raises:
            LostJobError: it is not this attempt's to run.
        """
        with self._database.write() as session:
            job = _get(session, job_id, lock=True)
            if job.attempt != attempt or job.status in FINISHED or job.cancel_requested:
                raise LostJobError(job_id)
            if job.status == "queued":
                job.status = "running"
                job.started_at = job.started_at or now()
                _record(session, job, "status", "running", worker=worker)

    def is_lost(self, job_id: str, attempt: int) -> bool:
        """Whether that attempt has to stop: cancelled, or no longer the one that runs."""
        with self._database.read() as session:
            job = _get(session, job_id)
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
                _record(session, job, event.type, event.message, level=event.level, **event.data)

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
        *,
        promote: bool,
        reason: str,
    ) -> None:
        """Makes the placed artifact a version and the job succeeded, both or neither.

        Raises:
            LostJobError: the attempt does not run the job.
        """
        with self._database.write() as session:
            job = self._running(session, job_id, attempt)
            assert job.version is not None
            registry.add_version(session, job.request["model"], job.version, card, promote=promote)
            job.metrics = dict(card["metrics"])
            job.result = {
                "model": job.request["model"],
                "version": job.version,
                "promoted": promote,
                "promotion": reason,
            }
            _finish(session, job, "succeeded", result=job.result)

    def fail(self, job_id: str, attempt: int, error: Mapping[str, Any]) -> None:
        """Ends a running attempt with an error; nothing, if it does not run the job."""
        with self._database.write() as session:
            job = _get(session, job_id, lock=True)
            if job.attempt == attempt and job.status not in FINISHED:
                _finish(session, job, "failed", error=error)

    def end_cancelled(self, job_id: str, attempt: int) -> None:
        """Ends an attempt that was told to; nothing, if the job has gone on without it."""
        with self._database.write() as session:
            job = _get(session, job_id, lock=True)
            if job.attempt == attempt and job.status == "running" and job.cancel_requested:
                _finish(session, job, "cancelled")

    def _running(self, session: Session, job_id: str, attempt: int) -> Job:
        job = _get(session, job_id, lock=True)
        if job.attempt != attempt or job.status != "running" or job.cancel_requested:
            raise LostJobError(job_id)
        return job


def wire(job: Job) -> dict[str, Any]:
    """The job as clients see it."""
    return {
        **job.request,
        "id": job.id,
        "object": "training_job",
        "status": job.status,
        "attempt": job.attempt,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "progress": job.progress,
        "metrics": job.metrics,
        "error": job.error,
        "result": job.result,
    }


def wire_event(event: JobEvent) -> dict[str, Any]:
    """The event as clients see it."""
    return {
        "id": event.id,
        "object": "training_job.event",
        "type": event.type,
        "level": event.level,
        "message": event.message,
        "data": event.data,
        "created_at": event.created_at,
    }


def rfc3339(moment: dt.datetime) -> str:
    """The moment as the wire shows it: UTC, with a Z."""
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _check_dataset(session: Session, request: TrainingJobRequest) -> None:
    dataset = session.scalar(sa.select(Dataset).where(Dataset.id == request.dataset))
    if dataset is None:
        message = f"there is no dataset {request.dataset[:64]!r}"
        raise NotFoundError(message, errors=[{"loc": ["dataset"], "msg": message}])
    names = [column["name"] for column in dataset.columns]
    if request.target not in names:
        near = difflib.get_close_matches(request.target, names, n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else f" (columns: {', '.join(names[:20])})"
        message = f"{dataset.name} has no column {request.target[:64]!r}{hint}"
        raise InvalidError(message, errors=[{"loc": ["target"], "msg": message}])


def _get(session: Session, job_id: str, *, lock: bool = False) -> Job:
    query = sa.select(Job).where(Job.id == job_id)
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise NotFoundError(f"there is no training job {job_id[:64]!r}")
    return job


def _finish(session: Session, job: Job, status: str, **data: Any) -> None:
    job.status = status
    job.finished_at = now()
    job.error = data.get("error")
    level = "error" if status == "failed" else "info"
    message = job.error["message"] if job.error else status
    _record(session, job, "status", message, level=level, status=status, **data)


def _record(
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
