"""Our tables, and the engine that reaches them: SQLite by default, PostgreSQL for many machines."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.resources
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

# What is raised while the database does not answer; later it may.
OUTAGES = (OperationalError, InterfaceError, PoolTimeoutError)
# The newest migration; a database that stands there needs nothing.
HEAD = "0004"
# Locks out other processes that migrate the same PostgreSQL database.
MIGRATION_LOCK = 0x64726F70
# How long a writer waits for another one on SQLite, before it says that nothing answers.
BUSY_SECONDS = 5.0


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


def take_turn(session: Session, what: str) -> None:
    """Lets writing transactions that name the same thing go one after the other.

    On SQLite they do anyway; on PostgreSQL this waits until those before have ended.
    """
    if session.get_bind().dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def now() -> dt.datetime:
    """This moment, in UTC."""
    return dt.datetime.now(dt.UTC)


class Database:
    """The way in: one transaction for each `with` block, committed at its end.

    `url` is SQLAlchemy's; a SQLite file need not exist yet.
    """

    def __init__(self, url: str) -> None:
        self.engine = _connect(url)
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        reading = self.engine.execution_options(reads_only=True)
        if self.engine.dialect.name == "postgresql":
            # All of its statements see one moment; on SQLite they do anyway.
            reading = reading.execution_options(isolation_level="REPEATABLE READ")
        self._read = sessionmaker(reading, expire_on_commit=False)

    def read(self) -> AbstractContextManager[Session]:
        """A transaction that only reads, all of it as one moment saw it; it waits for nobody."""
        return self._read.begin()

    def write(self) -> AbstractContextManager[Session]:
        """A transaction that may write; on SQLite one at a time."""
        return self._write.begin()

    def close(self) -> None:
        self.engine.dispose()

    def migrate(self) -> None:
        """Brings our tables to the newest shape; several processes may do so at once."""
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if sa.inspect(connection).has_table("alembic_version"):
                version = connection.execute(sa.text("SELECT version_num FROM alembic_version"))
                if version.scalar() == HEAD:
                    return
            # Needed once in a database's life, and slow to import.
            from alembic import command  # noqa: PLC0415
            from alembic.config import Config  # noqa: PLC0415

            config = Config()
            folder = importlib.resources.files("service") / "migrations"
            config.set_main_option("script_location", str(folder))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _connect(url: str) -> sa.Engine:
    if not url.startswith("sqlite"):
        # A network that is cut is noticed within seconds, and told as an error.
        patience = {
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        }
        return sa.create_engine(url, pool_pre_ping=True, connect_args=patience)
    path = sa.engine.make_url(url).database
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # Readers do not wait for writers, and what was committed survives a crash.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # The driver would begin transactions by itself, and only for some statements.
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A writer takes the lock first: one that read before could not be promoted.
        reads_only = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN DEFERRED" if reads_only else "BEGIN IMMEDIATE")

    return engine
