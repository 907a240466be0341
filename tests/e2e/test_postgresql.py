"""The same service on PostgreSQL, a real one from the `pgserver` package."""

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from service.database import Database
from service.datasets import Datasets
from service.errors import NotFoundError
from service.jobs import Jobs
from service.registry import Registry
from service.schemas import TrainingJobRequest
from service.settings import Settings
from tests.e2e.conftest import API_ALONE, PENGUIN, PENGUINS, Service
from tests.s3 import bucket


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pgserver = pytest.importorskip("pgserver", reason="the package pgserver is not installed")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield server.get_uri()
    server.cleanup()


def ask(one: Service) -> list[dict[str, Any]]:
    return [one.ask(f"birds:{verb}", instances=[PENGUIN]) for verb in ("predict", "uncertainty")]


def test_train_ask_restart_ask_again(
    service: Callable[..., Service], database_url: str, tmp_path: Path
) -> None:
    """Its datasets and versions are in S3 (moto's server): at home nothing is left."""
    with bucket(tmp_path / "moto.log") as store:
        one = service(database_url=database_url, storage=store)
        one.start()
        job = one.submit(
            model="birds", dataset=one.upload(PENGUINS)["id"], target="species",
            calibration="split", hyperparameters={"hidden": [32, 32], "epochs": 10},
        )  # fmt: skip
        finished = one.finish(job["id"])
        assert finished["status"] == "succeeded", finished["error"]
        answers = ask(one)
        path = "/v1/models/birds/versions/1/artifact"
        artifact = one.client.get(path).content
        assert one.stop() == 0
        assert not list(one.home.glob("*.db")), "nothing was kept in SQLite"
        assert not (one.home / "datasets").exists()
        assert not (one.home / "models").exists()
        shutil.rmtree(one.home / "cache")
        one.start(API_ALONE)
        assert one.client.get(path).content == artifact
        assert ask(one) == answers
        check_feedback(one)
        assert one.stop() == 0


def check_feedback(one: Service) -> None:
    named = {"instances": [PENGUIN], "row_ids": ["a bird"]}
    assert one.client.post("/v1/models/birds:uncertainty", json=named).status_code == 200
    entry = {"row_id": "a bird", "label": "Adelie"}
    told = one.ask("birds:feedback", feedback=[entry, entry])
    assert told["results"] == ["counted", "duplicate"]
    seen = one.client.get("/metrics").text
    for line in (
        'dropcast_live_rows{mode="mc_dropout",model="birds",version="1"} 1.0',
        'dropcast_training_job_duration_seconds_count{status="succeeded"} 1.0',
        "dropcast_database_up 1.0",
    ):
        assert line in seen


@pytest.fixture
def ascii_database(database_url: str) -> Iterator[Database]:
    """A database without an encoding, as a server set up in the C locale has them."""
    name = f"ascii_{uuid.uuid4().hex}"
    server = sa.create_engine(
        Settings(database_url=database_url).database, isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        statement = f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        connection.execute(sa.text(statement))
    address = (
        sa.engine.make_url(database_url).set(database=name).render_as_string(hide_password=False)
    )
    database = Database(Settings(database_url=address).database)
    database.migrate()
    yield database
    database.close()
    server.dispose()


def test_what_two_do_at_once_is_done_once(ascii_database: Database, tmp_path: Path) -> None:
    datasets = Datasets(ascii_database, tmp_path)
    jobs = Jobs(ascii_database, most_queued=3)
    registry = Registry(ascii_database, tmp_path)

    def at_once(call: Callable[[int], Any], n: int = 4) -> list[Any]:
        gate = threading.Barrier(n)
        with ThreadPoolExecutor(n) as pool:
            return list(pool.map(lambda i: (gate.wait(), call(i))[1], range(n)))

    def reserve(model: str) -> int:
        with ascii_database.write() as session:
            return registry.reserve_version(session, model)

    for i in range(10):
        file = tmp_path / f"{i}.csv"
        file.write_text(f"größe,y\n{i},1\n2,3\n")
        same = at_once(lambda _, file=file: datasets.add_file(file, "Maße").id)
        assert len(set(same)) == 1
        assert datasets.get(same[0]).name == "Maße"
        request = TrainingJobRequest(model=f"m{i}", dataset=same[0], target="größe")
        submitted = at_once(lambda k, r=request, i=i: jobs.submit(r, f"key {i}").id)
        assert len(set(submitted)) == 1
        jobs.cancel(submitted[0])
        assert sorted(at_once(lambda _, i=i: reserve(f"m{i}"))) == [1, 2, 3, 4]


def test_names_that_postgresql_cannot_hold_are_not_found(
    ascii_database: Database, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        Datasets(ascii_database, tmp_path).get("ds_\0")
    with pytest.raises(NotFoundError):
        Jobs(ascii_database, most_queued=3).get("\0")
    with pytest.raises(NotFoundError):
        Registry(ascii_database, tmp_path).describe("m\0")
