"""Feedback: the truth about rows that were answered, compared with what they were told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from models.live import Score, score_label, score_value
from service.database import Database, now
from service.errors import InvalidError, NotFoundError
from service.schemas import FeedbackEntry, Outcome
from service.tables import Answer, AnswerRow, Feedback, Version
from service.wording import listed, near

# Ids in one query, and faults in one error.
CHUNK = 500
MOST_FAULTS = 100


@dataclass(frozen=True)
class Place:
    """Where an entry's row is, and the labels that its version knows (none for numbers)."""

    answer: Answer
    row: int
    labels: Sequence[str]


class FeedbackDesk:
    """Takes feedback in; each row counts once, however often its truth is told."""

    def __init__(self, database: Database, *, window: int) -> None:
        self._database = database
        self._window = window

    def accept(self, model: str, entries: Sequence[FeedbackEntry]) -> list[Outcome]:
        """What became of each entry; if one of them is invalid, nothing is counted.

        Raises:
            InvalidError: a row that the answer does not have, or a truth of the wrong kind.
            NotFoundError: nothing of it is known.
        """
        outcomes: list[Outcome] = []
        with self._database.write() as session:
            places = _find(session, model, entries)
            scores = _score_all(entries, places)
            if not any(places):
                raise _nothing_known(entries)
            rows = []
            for place, score in zip(places, scores, strict=True):
                if place is None or score is None:
                    outcomes.append("unknown")
                    continue
                is_new = _mark(place.answer, place.row)
                outcomes.append("counted" if is_new else "duplicate")
                if is_new:
                    rows.append(_row(place.answer, score))
            if rows:
                session.execute(sa.insert(Feedback), rows)
                self._forget(session, {(r["model"], r["version"], r["mode"]) for r in rows})
        return outcomes

    def _forget(self, session: Session, groups: set[tuple[str, int, str]]) -> None:
        """All but the last rows of each group."""
        for model, version, mode in groups:
            of_group = (
                Feedback.model == model, Feedback.version == version, Feedback.mode == mode,
            )  # fmt: skip
            newest = sa.select(Feedback.number).where(*of_group).order_by(Feedback.number.desc())
            last = session.scalar(newest.offset(self._window).limit(1))
            if last is not None:
                session.execute(sa.delete(Feedback).where(*of_group, Feedback.number <= last))


def _find(session: Session, model: str, entries: Sequence[FeedbackEntry]) -> list[Place | None]:
    """Each entry's row, of the newest answer that has its id."""
    requests: dict[str, Answer] = {}
    for ids in _chunks([e.request_id for e in entries if e.request_id is not None]):
        query = sa.select(Answer).where(Answer.model == model, Answer.request_id.in_(ids))
        for answer in session.scalars(query.order_by(Answer.number).with_for_update()):
            requests[answer.request_id] = answer
    named: dict[str, tuple[Answer, int]] = {}
    for ids in _chunks([e.row_id for e in entries if e.row_id is not None]):
        joined = (
            sa.select(Answer, AnswerRow.row, AnswerRow.row_id)
            .join(AnswerRow, AnswerRow.answer == Answer.number)
            .where(Answer.model == model, AnswerRow.row_id.in_(ids))
        )
        for answer, row, row_id in session.execute(
            joined.order_by(Answer.number).with_for_update(of=Answer)
        ):
            named[row_id] = answer, row
    labels = _labels(session, model)
    places: list[Place | None] = []
    for entry in entries:
        found: tuple[Answer | None, int] = requests.get(entry.request_id or ""), entry.row
        if entry.row_id is not None:
            found = named.get(entry.row_id, (None, 0))
        answered, row = found
        if answered is None or answered.version not in labels:
            places.append(None)
        else:
            places.append(Place(answered, row, labels[answered.version]))
    return places


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    unique = sorted(set(ids))
    for start in range(0, len(unique), CHUNK):
        yield unique[start : start + CHUNK]


def _labels(session: Session, model: str) -> Mapping[int, Sequence[str]]:
    """By version; empty for regressions."""
    query = sa.select(Version.version, Version.card["labels"]).where(Version.model == model)
    return {version: labels or () for version, labels in session.execute(query)}


def _score_all(
    entries: Sequence[FeedbackEntry], places: Sequence[Place | None]
) -> list[Score | None]:
    scores: list[Score | None] = []
    faults: list[dict[str, Any]] = []
    for i, (entry, place) in enumerate(zip(entries, places, strict=True)):
        fault = None if place is None else _fault(entry, place)
        if fault is not None:
            faults.append({"loc": ["feedback", i, fault[0]], "msg": fault[1]})
        scores.append(None if place is None or fault else _score(entry, place))
    if faults:
        message = f"feedback {faults[0]['loc'][1]}: {faults[0]['msg']}"
        raise InvalidError(message, errors=faults[:MOST_FAULTS])
    return scores


def _fault(entry: FeedbackEntry, place: Place) -> tuple[str, str] | None:
    """The field that is wrong, and what is wrong with it."""
    if place.row >= place.answer.rows:
        return "row", f"that request had {place.answer.rows} rows, counted from 0"
    if not place.labels:
        return (
            ("value", "a value is due: the model is a regression") if entry.value is None else None
        )
    if entry.label is None:
        return "label", "a label is due: the model is a classification"
    if entry.label not in place.labels:
        hint = near(entry.label, place.labels) or f" (labels: {listed(place.labels)})"
        return "label", f"the model has no label {entry.label[:64]!r}{hint}"
    return None


def _score(entry: FeedbackEntry, place: Place) -> Score:
    claims = np.frombuffer(place.answer.claims).reshape(place.answer.rows, -1)[place.row]
    if entry.value is not None:
        return score_value(claims, entry.value)
    assert entry.label is not None
    return score_label(claims, place.labels.index(entry.label), len(place.labels))


def _mark(answer: Answer, row: int) -> bool:
    """Notes that the row's truth is known; False if it was before."""
    scored = bytearray(answer.scored or bytes((answer.rows + 7) // 8))
    bit = 1 << (row % 8)
    if scored[row // 8] & bit:
        return False
    scored[row // 8] |= bit
    answer.scored = bytes(scored)
    return True


def _row(answer: Answer, score: Score) -> dict[str, Any]:
    return {
        "model": answer.model,
        "version": answer.version,
        "mode": answer.mode,
        "coverage": answer.coverage,
        "created_at": now(),
        **asdict(score),
    }


def _nothing_known(entries: Sequence[FeedbackEntry]) -> NotFoundError:
    message = "no remembered answer of this model has that id"
    return NotFoundError(
        "no remembered answer of this model has any of these ids: they are too old, were not in "
        "the share that is remembered, or are another model's",
        errors=[
            {"loc": ["feedback", i, "row_id" if e.row_id else "request_id"], "msg": message}
            for i, e in enumerate(entries[:MOST_FAULTS])
        ],
    )
