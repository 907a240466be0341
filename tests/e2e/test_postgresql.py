"""The same service on PostgreSQL, a real one from the `pgserver` package."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PENGUIN, PENGUINS, Service


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pgserver = pytest.importorskip("pgserver", reason="the package pgserver is not installed")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield server.get_uri()
    server.cleanup()


def test_train_ask_restart_ask_again(
    service: Callable[..., Service], database_url: str, tmp_path: Path
) -> None:
    one = service(database_url=database_url)
    one.start()
    job = one.submit(
        model="birds", dataset=one.upload(PENGUINS)["id"], target="species",
        hyperparameters={"hidden": [32, 32], "epochs": 10},
    )  # fmt: skip
    finished = one.finish(job["id"])
    assert finished["status"] == "succeeded", finished["error"]
    asked = one.ask("birds:uncertainty", instances=[PENGUIN])
    assert one.stop() == 0
    one.start()
    assert one.ask("birds:uncertainty", instances=[PENGUIN]) == asked
    assert not list(one.home.glob("*.db")), "nothing was kept in SQLite"
