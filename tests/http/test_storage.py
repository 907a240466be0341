"""Where things lie: in a store that speaks S3 (moto's server), and what is swept away."""

import datetime as dt
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.database import Database, now
from service.storage import RemoteStorage, Storage, open_storage
from service.tables import Alias, Job
from tests.http.conftest import STRENGTH_ROW
from tests.s3 import bucket

pytestmark = pytest.mark.anyio

CSV = b"age,city,y\n1,Bern,2.5\n,Oslo,3.5\n3,,4.5\n"
ARTIFACT = "/v1/models/strength/versions/1/artifact"
DAY = 86_400.0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket."""
    with bucket(tmp_path_factory.mktemp("s3") / "log") as address:
        yield address


async def test_datasets_and_versions_in_s3(
    serve: Callable, s3: str, tmp_path: Path, home: Path
) -> None:
    """Uploaded by one process, they are read by another of another home, and gone when deleted."""
    content = (await (await serve()).client.get(ARTIFACT)).content
    database = f"sqlite:///{tmp_path / 'shared.db'}"
    shared = {"storage": s3, "database_url": database}
    one = await serve(home=tmp_path / "one", **shared)
    other = await serve(home=tmp_path / "other", **shared)
    dataset = (await one.client.post("/v1/datasets", content=CSV)).json()
    assert other.app.state.datasets.path(dataset["sha256"]).read_bytes() == CSV
    again = await other.client.post("/v1/datasets", content=CSV)
    assert (again.status_code, again.json()["id"]) == (200, dataset["id"])
    uploaded = await one.client.post("/v1/models/far/versions", content=content)
    assert uploaded.status_code == 201, uploaded.text
    asked = await other.client.post("/v1/models/far:predict", json={"instances": [STRENGTH_ROW]})
    assert asked.status_code == 200
    assert (await other.client.get("/v1/models/far/versions/1/artifact")).content == content
    store = open_storage(tmp_path / "third", s3)
    assert [entry.name for entry in store.entries("datasets/*")] == [
        f"datasets/{dataset['sha256']}"
    ]
    assert len(store.entries("models/*/*")) == 1
    for home_of_one in ("one", "other"):
        assert not (tmp_path / home_of_one / "datasets").exists()
        assert not list((tmp_path / home_of_one / "partial").iterdir())
    await one.client.put("/v1/models/far/aliases/production", json={"version": 1})
    await one.client.delete("/v1/models/far/aliases/production")
    assert (await one.client.delete("/v1/models/far/versions/1")).status_code == 204
    assert (await one.client.delete(f"/v1/datasets/{dataset['id']}")).status_code == 204
    assert store.entries("datasets/*") == store.entries("models/*/*") == []


async def test_a_store_that_does_not_answer_is_503_and_nothing_is_seen(
    serve: Callable, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve(home=tmp_path / "home5", storage="s3://no-such-bucket/x")
    response = await app.client.post("/v1/datasets", content=CSV)
    assert response.status_code == 503
    assert response.json()["type"].endswith("storage")
    assert "retry-after" in response.headers
    assert (await app.client.get("/v1/datasets")).json()["data"] == []
    assert not list((tmp_path / "home5" / "partial").iterdir())


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    url = None if request.param == "local" else request.getfixturevalue("s3") + f"/{tmp_path.name}"
    return open_storage(tmp_path / "store", url)


def test_what_is_stored_is_whole_and_can_be_removed(store: Storage) -> None:
    file, folder = store.scratch(), store.scratch()
    file.write_bytes(b"content")
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    assert not store.has("datasets/x")
    assert not store.path("models/m/1").exists()
    before = time.time() - 2
    store.put(file, "datasets/x")
    store.put(folder, "models/m/1")
    assert not file.exists()
    assert store.has("datasets/x")
    assert store.path("datasets/x").read_bytes() == b"content"
    assert sorted(p.read_text() for p in store.path("models/m/1").iterdir()) == ["a", "b"]
    (entry,) = store.entries("models/*/*")
    assert entry.name == "models/m/1"
    assert before < entry.modified < time.time() + 2
    store.remove("datasets/x")
    store.remove("datasets/x")
    store.remove("models/m/1")
    assert not store.has("datasets/x")
    assert not store.path("models/m/1").exists()
    assert isinstance(store, RemoteStorage) or not list((store.path("partial")).iterdir())


def age(path: Path, days: float = 1.0) -> None:
    for part in [*path.rglob("*"), path]:
        moment = time.time() - days * DAY
        os.utime(part, (moment, moment))


async def test_what_nobody_needs_is_swept_away(serve: Callable, home: Path) -> None:
    app = await serve()
    dataset = (await app.client.post("/v1/datasets", content=CSV)).json()
    job = {"model": "fresh", "dataset": dataset["id"], "target": "y"}
    jobs = [(await app.client.post("/v1/training_jobs", json=job)).json()["id"] for _ in range(4)]
    running, succeeded, lately_failed, failed = jobs
    (home / "datasets" / "orphan").write_bytes(b"x")
    (home / "partial" / "old").write_bytes(b"x")
    folders = [home / "jobs" / job for job in (*jobs, "job_unknown")]
    folders += [home / "models" / "strength" / "9-0123", home / "models" / "fresh" / "1-0123"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"x")
    assert app.app.state.sweeper.sweep() == [], "all of it is too new"
    finish(app.app.state.database, succeeded, "succeeded", days=1)
    finish(app.app.state.database, lately_failed, "failed", days=1)
    finish(app.app.state.database, failed, "cancelled", days=8)
    for path in (home / "datasets", home / "models", home / "jobs", home / "partial"):
        age(path)
    (home / "partial" / "new").write_bytes(b"x")
    gone = {Path(what).name for what in app.app.state.sweeper.sweep()}
    assert gone == {"orphan", "old", succeeded, failed, "job_unknown", "9-0123"}
    assert {p.name for p in (home / "jobs").iterdir()} == {running, lately_failed}
    assert [p.name for p in (home / "partial").iterdir()] == ["new"]
    assert (home / "models" / "fresh" / "1-0123").exists(), "a job is about to publish it"
    assert (await app.client.get(f"/v1/datasets/{dataset['id']}")).status_code == 200
    assert app.app.state.datasets.path(dataset["sha256"]).read_bytes() == CSV
    for version in (1, 2):
        path = f"/v1/models/strength/versions/{version}:predict"
        asked = await app.client.post(path, json={"instances": [STRENGTH_ROW]})
        assert asked.status_code == 200


def finish(database: Database, job_id: str, status: str, *, days: float) -> None:
    with database.write() as session:
        job = session.query(Job).filter_by(id=job_id).one()
        job.status, job.finished_at = status, now() - dt.timedelta(days=days)


async def test_the_newest_versions_without_an_alias_are_kept(serve: Callable) -> None:
    app = await serve(keep_versions=2)
    content = (await app.client.get(ARTIFACT)).content
    for _ in range(6):
        await app.client.post("/v1/models/many/versions?promote=never", content=content)
    for alias, version in (("production", 2), ("canary", 3)):
        path = f"/v1/models/many/aliases/{alias}"
        assert (await app.client.put(path, json={"version": version})).status_code == 200
    first = await app.client.post(
        "/v1/models/many/versions/1:predict", json={"instances": [STRENGTH_ROW]}
    )
    assert first.status_code == 200
    gone = [what for what in app.app.state.sweeper.sweep() if what.startswith("many")]
    assert sorted(gone) == ["many version 1", "many version 4"]
    cards = (await app.client.get("/v1/models/many")).json()["versions"]
    assert [card["version"] for card in cards] == [6, 5, 3, 2]
    for version, status in ((1, 404), (4, 404), (2, 200), (6, 200)):
        path = f"/v1/models/many/versions/{version}:predict"
        await app.app.state.inference.refresh()
        asked = await app.client.post(path, json={"instances": [STRENGTH_ROW]})
        assert asked.status_code == status
    with app.app.state.database.read() as session:
        assert session.query(Alias).filter_by(model="many").count() == 2
