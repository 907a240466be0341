"""Models, versions, aliases, artifacts."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from models import load_artifact
from service.schemas import Card, Model, Page
from tests.http.conftest import STRENGTH_ROW

pytestmark = pytest.mark.anyio


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
    client: httpx.AsyncClient, home: Path
) -> None:
    """The damaged version answers 500 and its reason is in the log; the others go on."""
    (folder,) = (home / "models" / "strength").glob("1-*")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    response = await client.post(
        "/v1/models/strength/versions/1:predict", json={"instances": [STRENGTH_ROW]}
    )
    assert response.status_code == 500
    assert str(home) not in response.text
    assert await version_served(client) == 2
