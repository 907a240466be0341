"""The engine that reaches our tables: SQLite by default, PostgreSQL for many machines."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.resources
import sqlite3
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

# What is raised while the database does not answer; later it may.
OUTAGES = (OperationalError, InterfaceError, PoolTimeoutError)
# The newest migration; a database that stands there needs nothing.
HEAD = "0004"
# Locks out other processes that migrate the same PostgreSQL database.
MIGRATION_LOCK = 0x64726F70
# How long a writer waits for another one on SQLite, before it says that nothing answers.
BUSY_SECONDS = 5.0


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
        _keep_journal(connection)
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


def _keep_journal(connection: sqlite3.Connection) -> None:
    """Turns write-ahead logging on; where another writes into a file without it, SQLite would not
    wait."""
    ends = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
            time.sleep(0.01)
        else:
            return
