"""Workers watch each other: the jobs of one that has vanished are queued again.

Each worker counts up a number in its row, its beat. One whose beat stands still for too long has
vanished, and its jobs go back to the queue under the next attempt's number, which fences it off:
should it come back, nothing that it writes is taken. No clocks are compared. What counts is the
time in which the watching worker itself could write its own beat, so that nobody is thought gone
while the database was.
"""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Callable, Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database, take_turn
from service.job_rows import finish, queue_again
from service.job_runs import Lease
from service.tables import Job, WorkerRow

log = logging.getLogger(__name__)

BEATS = 5  # in the time after which a worker has vanished
MOST_LOSSES = 20


class NameTakenError(Exception):
    """Another process has become the worker of this name."""


class Failover:
    """One worker's part in it."""

    def __init__(
        self,
        database: Database,
        worker: str,
        lost_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._worker = worker
        self._lost_seconds = lost_seconds
        self._interval = lost_seconds / BEATS
        self._clock = clock
        self._session = uuid.uuid4().hex
        self._heard: dict[str, tuple[str, int]] = {}
        self._silent: dict[str, float] = {}
        self._last = 0.0

    def enter(self) -> None:
        """Takes the name, and gives back what its former bearer left running."""
        with self._database.write() as session:
            take_turn(session, "workers")
            row = session.get(WorkerRow, self._worker)
            if row is None:
                row = self._row()
                session.add(row)
            row.session, row.host = self._session, socket.gethostname()
            for job in _running(session, sa.true()):
                if job.worker == self._worker:
                    _give_back(session, job, f"{self._worker} was interrupted")
        self._last = self._clock()

    def beat(self, leases: Collection[Lease]) -> None:
        """Shows that this worker, which runs those jobs, is well, and gives back the jobs of
        those that are not; nothing, if it is too soon.

        Raises:
            NameTakenError: somebody else has the name, as after a long pause of this process.
        """
        passed = self._clock() - self._last
        if passed < self._interval:
            return
        with self._database.write() as session:
            take_turn(session, "workers")
            self._show(session)
            present = {row.id: row for row in session.scalars(sa.select(WorkerRow))}
            heard, silent = self._listen(present, min(passed, 2 * self._interval))
            gone = {name for name in silent if silent[name] >= self._lost_seconds}
            ours = {(lease.job, lease.attempt) for lease in leases}
            for job in _running(session, self._is_astray(set(present) - gone)):
                # Ours is one whose claim was made without our hearing of it.
                if job.worker != self._worker:
                    _give_back(session, job, f"{job.worker} has vanished")
                elif (job.id, job.attempt) not in ours:
                    _give_back(session, job, f"{job.worker} does not run it")
            session.execute(sa.delete(WorkerRow).where(WorkerRow.id.in_(gone)))
        self._heard, self._silent, self._last = heard, silent, self._clock()

    def leave(self) -> None:
        """Ends the watch; what still runs under this name is given back by the next to look."""
        with self._database.write() as session:
            mine = sa.and_(WorkerRow.id == self._worker, WorkerRow.session == self._session)
            session.execute(sa.delete(WorkerRow).where(mine))

    def _row(self) -> WorkerRow:
        return WorkerRow(id=self._worker, session=self._session, host=socket.gethostname(), beat=0)

    def _show(self, session: Session) -> None:
        mine = session.get(WorkerRow, self._worker)
        if mine is None:
            log.warning("%s was thought to have vanished, and has lost its jobs", self._worker)
            session.add(self._row())
        elif mine.session != self._session:
            raise NameTakenError(self._worker)
        else:
            mine.beat += 1
        session.flush()

    def _listen(
        self, present: Mapping[str, WorkerRow], passed: float
    ) -> tuple[dict[str, tuple[str, int]], dict[str, float]]:
        """Each one's beat, and for how long it has been the same."""
        heard = {name: (row.session, row.beat) for name, row in present.items()}
        silent = {
            name: self._silent.get(name, 0.0) + passed if self._heard.get(name) == beat else 0.0
            for name, beat in heard.items()
        }
        return heard, silent

    def _is_astray(self, alive: set[str]) -> sa.ColumnElement[bool]:
        return sa.or_(Job.worker.is_(None), Job.worker == self._worker, Job.worker.not_in(alive))


def _running(session: Session, condition: sa.ColumnElement[bool]) -> list[Job]:
    query = sa.select(Job).where(Job.status == "running", condition).order_by(Job.number)
    return list(session.scalars(query.with_for_update()))


def _give_back(session: Session, job: Job, why: str) -> None:
    log.warning("%s is given back to the queue: %s", job.id, why)
    job.losses += 1
    if job.cancel_requested:
        finish(session, job, "cancelled")
    elif job.losses > MOST_LOSSES:
        message = f"{job.losses} workers were lost while they ran it, so it may be the cause"
        error = {"code": "worker_lost", "message": message, "param": None}
        finish(session, job, "failed", error=error)
    else:
        queue_again(session, job, why, level="warning")
