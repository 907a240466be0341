"""Our tables. What changes here needs a migration (`service/migrations`)."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcTime(sa.types.TypeDecorator[dt.datetime]):
    """A moment in UTC, aware of it also where the database is not (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_result_value(
        self, value: dt.datetime | None, dialect: sa.Dialect
    ) -> dt.datetime | None:
        del dialect
        return value.replace(tzinfo=dt.UTC) if value and value.tzinfo is None else value


class Text(sa.types.TypeDecorator[str]):
    """Text without NUL, which PostgreSQL cannot hold: no row is found by one that has it."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        del dialect
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if value else value


class Base(DeclarativeBase):
    """Maps the types of the classes below to columns."""

    type_annotation_map: ClassVar = {
        str: Text,
        dt.datetime: UtcTime,
        dict[str, Any]: sa.JSON,
        list[Any]: sa.JSON,
    }


class Dataset(Base):
    """An uploaded file, checked and profiled. The same bytes are stored once."""

    __tablename__ = "datasets"
    __table_args__ = (sa.UniqueConstraint("sha256", "format"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    format: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    rows: Mapped[int] = mapped_column(sa.BigInteger)
    columns: Mapped[list[Any]]
    created_at: Mapped[dt.datetime]


class Model(Base):
    """A name, and the last version number it has given away."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[dt.datetime]


class Version(Base):
    """A published artifact; its card never changes."""

    __tablename__ = "versions"

    model: Mapped[str] = mapped_column(sa.ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    artifact_sha256: Mapped[str]
    card: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime]


class Alias(Base):
    """A name that stands for one version of a model."""

    __tablename__ = "aliases"
    __table_args__ = (
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    updated_at: Mapped[dt.datetime]


class WorkerRow(Base):
    """A worker that runs, or has vanished: `beat` counts up while it is well, `session` tells
    two processes of the same name apart."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    session: Mapped[str]
    host: Mapped[str]
    beat: Mapped[int] = mapped_column(default=0)


class Job(Base):
    """A training job. `attempt` counts its runs: what an older attempt says is void. A running
    job is leased to `worker`, and uses `device`; `losses` counts workers that vanished with it."""

    __tablename__ = "jobs"
    __table_args__ = (sa.Index("ix_jobs_model_claimed_at", "model", "claimed_at"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str] = mapped_column(index=True)
    attempt: Mapped[int] = mapped_column(default=1)
    model: Mapped[str]
    dataset: Mapped[str]
    request: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[dt.datetime]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    version: Mapped[int | None]
    worker: Mapped[str | None]
    device: Mapped[str | None]
    claimed_at: Mapped[dt.datetime | None]
    losses: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    last_event: Mapped[int] = mapped_column(default=0)


class JobEvent(Base):
    """Something that happened to a job; `id` counts from 1 within the job."""

    __tablename__ = "job_events"

    job: Mapped[str] = mapped_column(sa.ForeignKey("jobs.id"), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    level: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime]


class ApiKey(Base):
    """What a client shows to be let in; of the key itself only the SHA-256 is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scopes: Mapped[list[Any]]
    sha256: Mapped[str]
    created_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]


class Answer(Base):
    """What one request was told, as far as feedback can be compared with it.

    `number` counts the bytes of all answers up to and with this one, so that the oldest beyond
    a number of bytes are found by it. `claims` are N rows of float64 (`models.live`), `scored`
    a bit for each row whose truth is known.
    """

    __tablename__ = "answers"

    number: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    request_id: Mapped[str] = mapped_column(index=True)
    model: Mapped[str]
    version: Mapped[int]
    mode: Mapped[str]
    coverage: Mapped[float | None]
    rows: Mapped[int]
    claims: Mapped[bytes]
    scored: Mapped[bytes]
    created_at: Mapped[dt.datetime]


class AnswerRow(Base):
    """A row of an answer that the client has given a name."""

    __tablename__ = "answer_rows"

    answer: Mapped[int] = mapped_column(
        sa.ForeignKey("answers.number", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row_id: Mapped[str] = mapped_column(index=True)


class Feedback(Base):
    """How one row compared with the truth: a `models.live.Score`, of the last rows only."""

    __tablename__ = "feedback"
    __table_args__ = (sa.Index("ix_feedback_group", "model", "version", "mode", "number"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    version: Mapped[int]
    mode: Mapped[str]
    coverage: Mapped[float | None]
    error: Mapped[float]
    covered: Mapped[bool | None]
    nll: Mapped[float | None]
    score: Mapped[float | None]
    confidence: Mapped[float | None]
    bin: Mapped[int | None]
    created_at: Mapped[dt.datetime]
