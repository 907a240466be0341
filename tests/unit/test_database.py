"""Migrations lead where the tables are declared, from an empty database and from every step."""

import sqlite3
import threading
import tracemalloc
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.database import HEAD, Database, now
from service.registry import Registry
from service.tables import Base, Job, JobEvent, Model, Version


def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sub' / 'x.db'}"


def test_migrations_make_the_declared_tables(tmp_path: Path) -> None:
    database = Database(url(tmp_path))
    database.migrate()
    database.migrate()
    with database.engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == HEAD
    database.close()


def test_the_head_is_the_newest_migration() -> None:
    folder = Path(__file__).parents[2] / "service" / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_many_may_migrate_at_once(tmp_path: Path) -> None:
    databases = [Database(url(tmp_path)) for _ in range(8)]
    start = threading.Barrier(len(databases))
    faults: list[BaseException] = []

    def migrate(database: Database) -> None:
        start.wait()
        try:
            database.migrate()
        except BaseException as error:  # noqa: BLE001
            faults.append(error)

    threads = [threading.Thread(target=migrate, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    for database in databases:
        database.close()


def test_a_new_file_that_another_writes_into_is_waited_for(tmp_path: Path) -> None:
    path = Path(url(tmp_path).removeprefix("sqlite:///"))
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    letting_go = threading.Timer(0.2, other.rollback)
    letting_go.start()
    database = Database(url(tmp_path))
    database.migrate()
    database.close()
    letting_go.join()
    other.close()


def test_times_come_back_in_utc(tmp_path: Path) -> None:
    database = Database(url(tmp_path))
    database.migrate()
    moment = now()
    with database.write() as session:
        session.add(Model(name="m", last_version=0, created_at=moment))
    with database.read() as session:
        found = session.get(Model, "m")
        assert found is not None
        assert found.created_at == moment
    database.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    database = Database(url(tmp_path))
    database.migrate()
    with database.write() as writing:
        writing.add(Model(name="m", last_version=0, created_at=now()))
        writing.flush()
        with database.read() as reading:
            assert reading.scalar(sa.select(sa.func.count()).select_from(Model)) == 0
    database.close()


def test_a_failed_block_changes_nothing(tmp_path: Path) -> None:
    database = Database(url(tmp_path))
    database.migrate()

    def broken() -> None:
        with database.write() as session:
            session.add(Model(name="m", last_version=0, created_at=now()))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    with database.read() as session:
        assert session.get(Model, "m") is None
    database.close()


def test_jobs_from_before_leases_keep_their_model_and_events(tmp_path: Path) -> None:
    """They were made at the third migration, the last without leases."""
    database = Database(url(tmp_path))
    config = Config()
    folder = Path(__file__).parents[2] / "service" / "migrations"
    config.set_main_option("script_location", str(folder))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        job = (
            "INSERT INTO jobs (number, id, status, attempt, dataset, request, cancel_requested, "
            "created_at, last_event) VALUES (1, 'job_1', 'running', 1, 'd', "
            """'{"model": "birds"}', 0, '2026-01-01', 1)"""
        )
        said = (
            "INSERT INTO job_events (job, id, type, level, message, data, created_at) VALUES "
            "('job_1', 1, 'log', 'info', 'hello', '{}', '2026-01-01')"
        )
        for statement in (job, said):
            connection.exec_driver_sql(statement)
    database.migrate()
    with database.read() as session:
        found = session.scalar(sa.select(Job))
        assert (found.model, found.worker, found.losses) == ("birds", None, 0)
        assert session.scalar(sa.select(JobEvent)).message == "hello"
    database.close()


def test_a_model_of_many_versions_is_described_without_holding_all_their_reports(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'd.db'}")
    database.migrate()
    size, many = 200_000, 40
    card = {"model": "m", "task": "regression", "report": {"excerpt": ["x" * size]}}
    with database.write() as session:
        session.add(Model(name="m", last_version=many, created_at=now()))
        session.flush()
        session.add_all(
            Version(model="m", version=n, artifact_sha256="", card=card, created_at=now())
            for n in range(1, many + 1)
        )
    registry = Registry(database, tmp_path)
    registry.describe("m")
    tracemalloc.start()
    try:
        described = registry.describe("m")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    database.close()
    assert described["versions"] == [{"model": "m", "task": "regression"}] * many
    assert peak < many * size / 4
