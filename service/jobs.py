"""Training jobs as clients see them.

A job's row is the promise made with the 202; whatever runs it (`job_runs.py`) only moves that
row along.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database, now, take_turn
from service.errors import ConflictError, InvalidError, NotFoundError, OverloadedError
from service.job_rows import finish, get_job, queue_again, record
from service.schemas import TrainingJobRequest
from service.tables import Dataset, Job, JobEvent
from service.wording import listed, near


class Jobs:
    """Submitting, watching, cancelling, resuming."""

    def __init__(self, database: Database, *, most_queued: int) -> None:
        self._database = database
        self._most_queued = most_queued

    def submit(
        self,
        request: TrainingJobRequest,
        idempotency_key: str | None = None,
        job_id: str | None = None,
    ) -> Job:
        """A queued job, of that id if it is to have a known one; with a key seen before, the job
        that came of it.

        Raises:
            NotFoundError: the dataset does not exist.
            InvalidError: the target is not one of its columns.
            ConflictError: the key belongs to a different request.
            OverloadedError: too many jobs wait already.
        """
        body = request.model_dump(mode="json")
        with self._database.read() as session:
            known = _known(session, idempotency_key, body)
            if known is not None:
                return known
            _check_dataset(session, request)
        with self._database.write() as session:
            take_turn(session, "training jobs")
            known = _known(session, idempotency_key, body)
            if known is not None:
                return known
            _check_dataset(session, request)
            self._check_room(session)
            job = Job(
                id=job_id or f"job_{uuid.uuid4().hex[:20]}",
                status="queued",
                attempt=1,
                model=request.model,
                dataset=request.dataset,
                request=body,
                idempotency_key=idempotency_key,
                cancel_requested=False,
                created_at=now(),
                losses=0,
                last_event=0,
            )
            session.add(job)
            session.flush()
            record(session, job, "status", "queued")
        return job

    def get(self, job_id: str) -> Job:
        """That job.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.read() as session:
            return get_job(session, job_id)

    def page(self, status: str | None, after: str | None, limit: int) -> tuple[list[Job], bool]:
        """A page, newest first, and whether there are more."""
        with self._database.read() as session:
            query = sa.select(Job).order_by(Job.number.desc()).limit(limit + 1)
            if status is not None:
                query = query.where(Job.status == status)
            if after is not None:
                query = query.where(Job.number < get_job(session, after).number)
            found = list(session.scalars(query))
        return found[:limit], len(found) > limit

    def events(
        self, job_id: str, *, after: int | None, limit: int, ascending: bool
    ) -> tuple[list[JobEvent], bool]:
        """A page of events; `after` is the last id of the page before."""
        with self._database.read() as session:
            get_job(session, job_id)
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
            job = get_job(session, job_id, lock=True)
            if job.status in ("succeeded", "failed"):
                raise ConflictError(f"{job_id} has {job.status} already")
            if job.status == "queued":
                finish(session, job, "cancelled")
            elif job.status == "running" and not job.cancel_requested:
                job.cancel_requested = True
                record(session, job, "log", "cancel requested")
        return job

    def resume(self, job_id: str) -> Job:
        """Queues a cancelled or failed job again; it goes on from its last checkpoint.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is in another state, or its dataset is gone.
            OverloadedError: too many jobs wait already.
        """
        with self._database.write() as session:
            take_turn(session, "training jobs")
            job = get_job(session, job_id, lock=True)
            if job.status not in ("cancelled", "failed"):
                raise ConflictError(
                    f"{job_id} is {job.status}: only a cancelled or failed job resumes"
                )
            query = sa.select(Dataset.id).where(Dataset.id == job.dataset)
            if session.scalar(query) is None:
                raise ConflictError(f"{job_id} needs dataset {job.dataset}, which was deleted")
            self._check_room(session)
            job.cancel_requested = False
            job.error = None
            job.finished_at = None
            job.losses = 0
            queue_again(session, job, "resumed")
        return job

    def _check_room(self, session: Session) -> None:
        waiting = sa.select(sa.func.count()).where(Job.status == "queued")
        if (session.scalar(waiting) or 0) >= self._most_queued:
            message = f"{self._most_queued} training jobs wait already"
            raise OverloadedError(message, retry_after_seconds=30)


def _known(session: Session, idempotency_key: str | None, body: dict[str, Any]) -> Job | None:
    """The job that was submitted under that key."""
    if idempotency_key is None:
        return None
    known = session.scalar(sa.select(Job).where(Job.idempotency_key == idempotency_key))
    # As texts: to Python true and 1 are equal.
    if known is not None and _text(known.request) != _text(body):
        raise ConflictError(
            f"the Idempotency-Key was used for job {known.id}, whose request differs"
        )
    return known


def _text(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _check_dataset(session: Session, request: TrainingJobRequest) -> None:
    dataset = session.scalar(sa.select(Dataset).where(Dataset.id == request.dataset))
    if dataset is None:
        message = f"there is no dataset {request.dataset[:64]!r}"
        raise NotFoundError(message, errors=[{"loc": ["dataset"], "msg": message}])
    names = [column["name"] for column in dataset.columns]
    if request.target not in names:
        hint = near(request.target, names) or f" (columns: {listed(names)})"
        message = f"{dataset.name} has no column {request.target[:64]!r}{hint}"
        raise InvalidError(message, errors=[{"loc": ["target"], "msg": message}])
