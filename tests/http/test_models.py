"""Models, versions, aliases, artifacts."""

import asyncio
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from models import load_artifact
from service import loading
from service.database import Database, now
from service.datasets import Datasets
from service.job_order import Devices
from service.job_runs import JobRuns
from service.jobs import Jobs
from service.registry import Entry, Registry
from service.schemas import Card, Model, Page, TrainingJobRequest
from service.settings import Settings
from service.tables import Model as ModelRow
from tests.http.conftest import STRENGTH_ROW

pytestmark = pytest.mark.anyio


def damaged(content: bytes) -> bytes:
    """The last bit is another."""
    return content[:-1] + bytes([content[-1] ^ 1])


async def version_served(client: httpx.AsyncClient, path: str = "strength") -> int:
    response = await client.post(f"/v1/models/{path}:predict", json={"instances": [STRENGTH_ROW]})
    return response.json()["version"]


async def test_the_list_is_newest_first_and_paged(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert body["has_more"] is False
    names = [model["model"] for model in body["data"]]
    assert names == ["dropconnect", "concrete", "gaussian", "plain", "species", "strength"]
    Page[Model].model_validate(body)
    first = (await client.get("/v1/models?limit=2")).json()
    assert ([m["model"] for m in first["data"]], first["has_more"]) == (names[:2], True)
    rest = (await client.get(f"/v1/models?after={names[1]}")).json()
    assert ([m["model"] for m in rest["data"]], rest["has_more"]) == (names[2:], False)


async def test_a_model_with_its_versions(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models/strength")).json()
    assert (body["model"], body["task"]) == ("strength", "regression")
    assert body["aliases"] == {"production": 2}
    assert [card["version"] for card in body["versions"]] == [2, 1]
    assert body["created_at"].endswith("Z")


async def test_a_versions_card(client: httpx.AsyncClient) -> None:
    card = (await client.get("/v1/models/strength/versions/1")).json()
    Card.model_validate(card)
    assert (card["model"], card["version"], card["task"]) == ("strength", 1, "regression")
    assert card["target"] == "strength"
    assert [(f["name"], f["type"]) for f in card["features"]] == [
        ("age", "number"),
        ("water", "number"),
        ("site", "category"),
    ]
    assert "identifier" in card["ignored_columns"]["row_id"]
    assert card["dropout"] == {"kind": "bernoulli", "p": [0.2, 0.2], "input_p": 0.0}
    assert set(card["provenance"]) == {"job", "dataset_sha256", "seed", "torch", "dropcast"}


async def test_the_artifact_is_the_version(client: httpx.AsyncClient, tmp_path: Path) -> None:
    response = await client.get("/v1/models/strength/versions/1/artifact")
    (tmp_path / "a.zip").write_bytes(response.content)
    artifact = load_artifact(tmp_path / "a.zip")
    card = (await client.get("/v1/models/strength/versions/1")).json()
    assert artifact.sha256 == card["artifact_sha256"]
    again = await client.get("/v1/models/strength/versions/1/artifact")
    assert hashlib.sha256(again.content).digest() == hashlib.sha256(response.content).digest()
    assert 'filename="strength-1.zip"' in response.headers["content-disposition"]


@pytest.mark.parametrize("asked", ["bytes=abc", "bytes=99999999-", "bytes=0-9"])
async def test_the_artifact_comes_whole_whatever_range_is_asked_and_leaves_no_file(
    client: httpx.AsyncClient, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v1/models/strength/versions/1/artifact"
    whole = await client.get(path)
    assert int(whole.headers["content-length"]) == len(whole.content)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    response = await client.get(path, headers={"Range": asked})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    assert response.content == whole.content
    assert (await client.get(path.replace("1", "9"))).status_code == 404
    assert list(folder.iterdir()) == []


async def test_an_alias_moves_and_rolls_back(client: httpx.AsyncClient) -> None:
    for version in (1, 2, 1):
        response = await client.put(
            "/v1/models/strength/aliases/production", json={"version": version}
        )
        assert response.status_code == 200
        assert response.json() == {"model": "strength", "alias": "production", "version": version}
        assert await version_served(client) == version
    await client.put("/v1/models/strength/aliases/canary", json={"version": 2})
    assert await version_served(client, "strength/labels/canary") == 2
    assert await version_served(client) == 1
    aliases = (await client.get("/v1/models/strength")).json()["aliases"]
    assert aliases == {"production": 1, "canary": 2}


async def test_no_request_fails_while_an_alias_moves(client: httpx.AsyncClient) -> None:
    answers: list[int] = []
    moving = True

    async def load() -> None:
        while moving:
            answers.append(await version_served(client))
            await asyncio.sleep(0)

    loads = [asyncio.create_task(load()) for _ in range(3)]
    for i in range(20):
        await client.put("/v1/models/strength/aliases/production", json={"version": 1 + i % 2})
    moving = False
    await asyncio.gather(*loads)
    assert set(answers) == {1, 2}


async def test_another_replica_follows_a_moved_alias(serve: Callable) -> None:
    first, second = await serve(), await serve()
    await first.client.put("/v1/models/strength/aliases/production", json={"version": 1})
    async with asyncio.timeout(2):
        while await version_served(second.client) != 1:
            await asyncio.sleep(0.02)


async def test_a_version_is_deleted_only_without_an_alias(client: httpx.AsyncClient) -> None:
    conflict = await client.delete("/v1/models/strength/versions/2")
    assert conflict.status_code == 409
    assert "production" in conflict.json()["detail"]
    assert (await client.delete("/v1/models/strength/versions/1")).status_code == 204
    for path in ("", "/artifact"):
        gone = await client.get(f"/v1/models/strength/versions/1{path}")
        assert gone.status_code == 404
    response = await client.post(
        "/v1/models/strength/versions/1:predict", json={"instances": [STRENGTH_ROW]}
    )
    assert response.status_code == 404
    assert (await client.delete("/v1/models/strength/versions/1")).status_code == 404
    assert await version_served(client) == 2


async def test_a_version_that_is_damaged_on_disk_is_not_served(
    client: httpx.AsyncClient, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The damaged version answers 500 and its reason is in the log; the others go on."""
    (folder,) = (home / "models" / "strength").glob("1-*")
    weights = folder / "weights.safetensors"
    weights.write_bytes(damaged(weights.read_bytes()))
    response = await client.post(
        "/v1/models/strength/versions/1:predict", json={"instances": [STRENGTH_ROW]}
    )
    assert response.status_code == 500
    assert str(home) not in response.text
    assert f"{folder}" in caplog.text
    assert await version_served(client) == 2


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The artifacts that are read from now on; the service looks only when told to."""
    read: list[str] = []

    def counted(folder: Path):
        read.append(f"{folder.parent.name} {folder.name.split('-')[0]}")
        return load_artifact(folder)

    monkeypatch.setattr(loading, "load_artifact", counted)
    monkeypatch.setattr("service.app.REFRESH_SECONDS", 3600)
    return read


async def test_more_models_than_fit_are_loaded_when_they_are_asked_for(
    serve: Callable, loads: list[str]
) -> None:
    app = await serve(max_loaded_versions=2)
    assert len(loads) == 2
    for _ in range(3):
        await app.app.state.inference.refresh()
    assert len(loads) == 2
    for model in ("plain", "gaussian", "concrete", "strength"):
        assert await version_served(app.client, model) == (2 if model == "strength" else 1)


async def test_a_version_that_cannot_be_loaded_does_not_take_over(
    serve: Callable, loads: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it goes on; the new one is tried again only when it is asked for."""
    app = await serve()
    (folder,) = (home / "models" / "strength").glob("1-*")
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(damaged(whole))
    put = await app.client.put("/v1/models/strength/aliases/production", json={"version": 1})
    assert put.status_code == 500
    model = (await app.client.get("/v1/models/strength")).json()
    assert model["aliases"]["production"] == 2
    # A process that could read it may have promoted it.
    app.app.state.registry.set_alias("strength", "production", 1)
    for _ in range(3):
        await app.app.state.inference.refresh()
        assert await version_served(app.client) == 2
    assert loads.count("strength 1") == 1
    monkeypatch.setattr(loading, "RETRY_SECONDS", 0.0)
    await app.app.state.inference.refresh()
    assert loads.count("strength 1") == 2
    by_number = "/v1/models/strength/versions/1:predict"
    response = await app.client.post(by_number, json={"instances": [STRENGTH_ROW]})
    assert response.status_code == 500
    assert response.json()["type"].endswith("artifact")
    assert loads.count("strength 1") == 3
    weights.write_bytes(whole)
    assert await version_served(app.client, "strength/versions/1") == 1
    await app.app.state.inference.refresh()
    assert await version_served(app.client) == 1


async def test_a_slow_look_does_not_undo_a_later_one(
    serve: Callable, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve()
    inference, registry = app.app.state.inference, app.app.state.registry
    assert await version_served(app.client, "strength/versions/1") == 1
    snapshot, has_looked, go_on = Registry.snapshot, threading.Event(), threading.Event()

    def slow_at_first(self: Registry) -> dict[str, Entry]:
        seen = snapshot(self)
        if not has_looked.is_set():
            has_looked.set()
            go_on.wait(0.5)
        return seen

    monkeypatch.setattr(Registry, "snapshot", slow_at_first)
    older = asyncio.create_task(inference.refresh())
    await asyncio.to_thread(has_looked.wait)
    registry.set_alias("strength", "production", 1)
    later = asyncio.create_task(inference.refresh())
    later.add_done_callback(lambda _: go_on.set())
    await asyncio.gather(older, later)
    assert await version_served(app.client) == 1


async def test_a_model_in_training_says_how_far_it_is(serve: Callable) -> None:
    app = await serve()
    uploaded = await app.client.post("/v1/datasets", content=b"a,y\n1,2\n3,4\n")
    request = {"model": "fresh", "dataset": uploaded.json()["id"], "target": "y"}
    job = (await app.client.post("/v1/training_jobs", json=request)).json()["id"]

    async def told() -> str:
        asked = await app.client.post("/v1/models/fresh:predict", json={"instances": [{}]})
        got = await app.client.get("/v1/models/fresh")
        assert (asked.status_code, got.status_code) == (404, 404)
        assert asked.json()["detail"] == got.json()["detail"]
        return asked.json()["detail"]

    assert await told() == f"there is no model 'fresh' yet: training job {job} is queued"
    runs = JobRuns(app.app.state.database)
    lease = runs.claim("w", Devices())
    assert lease is not None
    runs.report(lease, [], {"epoch": 21, "epochs": 50, "fraction": 0.42, "eta_seconds": 1.0})
    assert (
        await told() == f"there is no model 'fresh' yet: training job {job} is running, 42 % done"
    )
    runs.fail(lease, {"code": "x", "message": "x", "param": None})
    assert await told() == "there is no model 'fresh'"


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[Database]:
    pgserver = pytest.importorskip("pgserver", reason="the package pgserver is not installed")
    server = pgserver.get_server(tmp_path / "postgresql")
    database = Database(Settings(database_url=server.get_uri()).database)
    database.migrate()
    yield database
    database.close()
    server.cleanup()


def test_on_postgresql_a_read_sees_one_moment(postgresql: Database, tmp_path: Path) -> None:
    count = sa.select(sa.func.count()).select_from(ModelRow)
    with postgresql.read() as reading:
        assert reading.scalar(count) == 0
        with postgresql.write() as writing:
            writing.add(ModelRow(name="m", last_version=0, created_at=now()))
        assert reading.scalar(count) == 0
    with postgresql.read() as reading:
        assert reading.scalar(count) == 1
    registry = Registry(postgresql, tmp_path)
    assert str(registry.no_model("m")) == "there is no model 'm'"
    (tmp_path / "t.csv").write_text("a,y\n1,2\n3,4\n")
    dataset = Datasets(postgresql, tmp_path).add_file(tmp_path / "t.csv", "t").id
    request = TrainingJobRequest(model="m", dataset=dataset, target="y")
    job = Jobs(postgresql, most_queued=1).submit(request)
    assert str(registry.no_model("m")).endswith(f"yet: training job {job.id} is queued")
    assert str(registry.no_model("a\0b")) == "there is no model 'a\\x00b'"


async def test_only_the_card_of_one_version_has_its_report(client: httpx.AsyncClient) -> None:
    model = (await client.get("/v1/models/strength")).json()
    assert all("report" not in card for card in model["versions"])
    (listed,) = [m for m in (await client.get("/v1/models")).json()["data"] if m == model]
    card = (await client.get(f"/v1/models/{listed['model']}/versions/2")).json()
    assert {name: card[name] for name in model["versions"][0]} == model["versions"][0]
    rows = card["report"]["excerpt"]
    body = {"instances": rows}
    answer = await client.post("/v1/models/strength/versions/2:predict", json=body)
    assert len(answer.json()["predictions"]) == len(rows) == 200
    assert not any("out_of_range" in str(row) for row in answer.json()["predictions"])
