"""Answers that are remembered for a while, so that feedback can be compared with them.

Off the path of requests: what was answered is put into a short list, and a task writes that
into the database once in a second. A list that is full takes no more: what was not remembered is
counted, and its feedback will be unknown.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service import context
from service.database import Database, now, take_turn
from service.metrics import Metrics
from service.observation import Observation, Observer
from service.settings import Settings
from service.tables import Answer, AnswerRow

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
# One flush: a few milliseconds of a thread.
MOST_WAITING = 500
MOST_WAITING_BYTES = 8 * 2**20
# Of a request beside its numbers, about: ids, indexes, the row itself.
BYTES_OF_AN_ANSWER = 200
# So many of the oldest answers are looked at for their age in one flush.
OLDEST = 1000


@dataclass(slots=True)
class Told:
    """An answer on its way into the database."""

    request_id: str
    seen: Observation
    row_ids: Sequence[str] | None


class Memory(Observer):
    """Remembers a share of what inference answers."""

    def __init__(self, database: Database, settings: Settings, metrics: Metrics) -> None:
        self._database = database
        self._settings = settings
        self._metrics = metrics
        self._random = random.Random(time.time_ns())  # noqa: S311 - a sample, no secret
        self._waiting: list[Told] = []
        self._waiting_bytes = 0
        self._turn = asyncio.Lock()

    @property
    def is_on(self) -> bool:
        return self._settings.feedback_share > 0.0

    def answered(self, seen: Observation) -> None:
        request = context.current()
        share = self._settings.feedback_share
        if request is None or share <= 0.0 or (share < 1.0 and self._random.random() >= share):
            return
        size = seen.claims.bytes
        is_full = len(self._waiting) >= MOST_WAITING
        if is_full or self._waiting_bytes + size > MOST_WAITING_BYTES:
            self._metrics.forgot(seen.rows)
            return
        self._waiting_bytes += size
        self._waiting.append(Told(request.request_id, seen, request.row_ids))

    async def keep(self) -> None:
        """Writes what was answered, again and again."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Writes what was answered so far."""
        async with self._turn:
            told, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if not told:
                return
            try:
                await asyncio.to_thread(self._write, told)
            except SQLAlchemyError as error:
                log.warning("%d answers are not remembered: %s", len(told), error)
                self._metrics.forgot(sum(one.seen.rows for one in told))

    def _write(self, told: Sequence[Told]) -> None:
        # Before the transaction, during which others wait.
        created_at = now()
        claims = [np.ascontiguousarray(one.seen.claims.columns()).tobytes() for one in told]
        with self._database.write() as session:
            take_turn(session, "answers")
            number = session.scalar(sa.select(sa.func.max(Answer.number))) or 0
            answers: list[dict[str, Any]] = []
            rows: list[dict[str, Any]] = []
            for one, numbers in zip(told, claims, strict=True):
                number += BYTES_OF_AN_ANSWER + len(numbers)
                answers.append(_row(one, number, numbers, created_at))
                rows += [
                    {"answer": number, "row": i, "row_id": row_id}
                    for i, row_id in enumerate(one.row_ids or ())
                ]
            session.execute(sa.insert(Answer), answers)
            if rows:
                session.execute(sa.insert(AnswerRow), rows)
            self._forget(session, number)

    def _forget(self, session: Session, newest: int) -> None:
        """The oldest answers, beyond the bytes and the days that are allowed."""
        before_all = newest - self._settings.feedback_bytes
        if before_all > 0:
            # The first that ends later has begun before.
            last = sa.select(sa.func.min(Answer.number)).where(Answer.number > before_all)
            session.execute(
                sa.delete(Answer).where(Answer.number <= last.scalar_subquery()),
                execution_options={"synchronize_session": False},
            )
        oldest = sa.select(Answer.number).order_by(Answer.number).limit(OLDEST)
        before = now() - dt.timedelta(days=self._settings.feedback_days)
        session.execute(
            sa.delete(Answer).where(Answer.number.in_(oldest), Answer.created_at < before),
            execution_options={"synchronize_session": False},
        )


def _row(one: Told, number: int, claims: bytes, created_at: dt.datetime) -> dict[str, Any]:
    return {
        "number": number,
        "request_id": one.request_id,
        "model": one.seen.model,
        "version": one.seen.version,
        "mode": one.seen.mode,
        "coverage": one.seen.claims.coverage,
        "rows": one.seen.rows,
        "claims": claims,
        "scored": b"",
        "created_at": created_at,
    }
