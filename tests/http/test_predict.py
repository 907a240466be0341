"""`:predict`: eval mode, deterministic, in the protocol's words."""

import asyncio

import httpx
import numpy as np
import pytest
import torch

from models import load_artifact
from service.schemas import PredictResponse
from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


async def artifact_of(client: httpx.AsyncClient, model: str, version: int, tmp_path):
    response = await client.get(f"/v1/models/{model}/versions/{version}/artifact")
    assert response.headers["content-type"] == "application/zip"
    path = tmp_path / f"{model}.zip"
    path.write_bytes(response.content)
    return load_artifact(path)


async def test_regression(client: httpx.AsyncClient, tmp_path) -> None:
    rows = [STRENGTH_ROW, [50, None, "west"], {"age": 3, "site": "south", "row_id": 7}]
    response = await client.post("/v1/models/strength:predict", json={"instances": rows})
    assert response.status_code == 200
    body = response.json()
    assert (body["model"], body["version"]) == ("strength", 2)
    assert [set(p) - {"flags"} for p in body["predictions"]] == [{"value"}] * 3
    artifact = await artifact_of(client, "strength", 2, tmp_path)
    with torch.no_grad():
        outputs = artifact.network(artifact.encode(rows))
    expected = artifact.decode(outputs)[:, 0].numpy()
    np.testing.assert_allclose([p["value"] for p in body["predictions"]], expected, rtol=1e-5)


async def test_classification(client: httpx.AsyncClient, tmp_path) -> None:
    rows = [SPECIES_ROW, {"bill": 60, "mass": 5000}]
    response = await client.post("/v1/models/species:predict", json={"instances": rows})
    body = response.json()
    artifact = await artifact_of(client, "species", 1, tmp_path)
    with torch.no_grad():
        expected = artifact.decode(artifact.network(artifact.encode(rows))).numpy()
    for prediction, p in zip(body["predictions"], expected, strict=True):
        assert list(prediction["probabilities"]) == ["Adelie", "Chinstrap", "Gentoo"]
        np.testing.assert_allclose(list(prediction["probabilities"].values()), p, rtol=1e-5)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1.0)
        assert prediction["label"] == max(
            prediction["probabilities"], key=prediction["probabilities"].get
        )
    PredictResponse.model_validate(body)


async def test_flags(client: httpx.AsyncClient) -> None:
    rows = [STRENGTH_ROW | {"age": 1000, "site": "moon"}, STRENGTH_ROW]
    body = (await client.post("/v1/models/strength:predict", json={"instances": rows})).json()
    first, second = body["predictions"]
    assert first["flags"] == ["out_of_range:age", "unknown_category:site"]
    assert "flags" not in second


async def test_what_is_imputed_is_flagged(client: httpx.AsyncClient) -> None:
    rows = [STRENGTH_ROW | {"water": None}, {"age": 1000, "site": "north"}, STRENGTH_ROW]
    for verb in ("predict", "uncertainty"):
        answer = await client.post(f"/v1/models/strength:{verb}", json={"instances": rows})
        first, second, third = answer.json()["predictions"]
        assert first["flags"] == ["missing:water"]
        assert second["flags"] == ["out_of_range:age", "missing:water"]
        assert "flags" not in third
    shown = await client.post("/v1/models/strength:dropout", json={"instance": rows[0]})
    assert shown.json()["flags"] == ["missing:water"]


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("strength:predict", 2),
        ("strength/versions/1:predict", 1),
        ("strength/versions/2:predict", 2),
        ("strength/labels/production:predict", 2),
    ],
)
async def test_every_address(client: httpx.AsyncClient, path: str, version: int) -> None:
    response = await client.post(f"/v1/models/{path}", json={"instances": [STRENGTH_ROW]})
    assert response.json()["version"] == version


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_any_content_type_is_read(client: httpx.AsyncClient, content_type) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = await client.post(
        "/v1/models/species:predict",
        content=b'{"instances": [{"bill": 47.0, "mass": 4100.0}], "signature_name": "x"}',
        headers=headers,
    )
    assert response.status_code == 200


async def test_the_same_bits_on_every_call_whatever_else_runs(client: httpx.AsyncClient) -> None:
    request = {"instances": [STRENGTH_ROW] * 5}
    noise = {"instances": [STRENGTH_ROW] * 300, "n_samples": 500}

    async def ask() -> bytes:
        return (await client.post("/v1/models/strength:predict", json=request)).content

    async def disturb() -> bytes:
        return (await client.post("/v1/models/strength:uncertainty", json=noise)).content

    first = await ask()
    answers = await asyncio.gather(*[ask() for _ in range(30)], *[disturb() for _ in range(4)])
    assert set(answers[:30]) == {first}


async def test_a_row_gets_the_same_value_in_any_batch(client: httpx.AsyncClient) -> None:
    rows = [STRENGTH_ROW | {"age": 1.0 + i / 3} for i in range(256)]

    async def values(rows: list) -> list[float]:
        body = await client.post("/v1/models/strength:predict", json={"instances": rows})
        return [p["value"] for p in body.json()["predictions"]]

    together = await values(rows)
    for i in (0, 17, 255):
        assert (await values([rows[i]]))[0] == pytest.approx(together[i], rel=1e-5)


async def test_rows_of_numbers_alone_are_answered_like_all_others(
    client: httpx.AsyncClient,
) -> None:
    """They are read another way: a field beside them, which counts for nothing, makes them go the
    way of all others."""
    rng = np.random.default_rng(0)
    usual = rng.normal([45, 4200], [5, 700], (300, 2)).tolist()
    for rows in (
        *(usual[:1], usual[:20], usual, [[45, 4200], [44.5, 4000]], [[1e6, -0.0], [-0, 1e-30]]),
        *([[1e300, 1]], [[1]], [[1, 2, 3]] * 3, [[1, 2], [3]], [["a", 1]], [[None, 1]], [[]]),
    ):
        for path in ("species", "strength", "plain", "nobody"):
            url = f"/v1/models/{path}:predict"
            got = await client.post(url, json={"instances": rows})
            expected = await client.post(url, json={"instances": rows, "signature_name": ""})
            assert got.status_code == expected.status_code
            told, due = got.json(), expected.json()
            told.pop("request_id", None), due.pop("request_id", None)
            assert told == due
