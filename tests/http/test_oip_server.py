"""Open Inference Protocol: what the server and its models say of themselves."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest

from models import kernel
from service.schemas import IndexEntry, InferRequest, ModelMetadata, ServerMetadata
from tests.http.test_oip_bad_requests import assert_problem

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


async def test_the_server(serve: Callable) -> None:
    app = await serve(threads=2)
    for path in ("/v2", "/v2/"):
        body = (await app.client.get(path)).json()
        ServerMetadata.model_validate(body)
        assert body["name"] == "dropcast"
        assert "binary_tensor_data" in body["extensions"]
        assert body["intra_op_threads"] == 2
        assert body["compiled_kernel"] == kernel.is_available()


async def test_live_and_ready(serve: Callable) -> None:
    """What KServe's client reads, and 503 while draining."""
    app = await serve()
    for path, expected in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/strength/ready", {"name": "strength", "ready": True}),
        ("/v2/models/strength/versions/1/ready", {"name": "strength", "ready": True}),
    ):
        response = await app.client.get(path)
        assert (response.status_code, response.json()) == (200, expected)
    app.app.state.is_ready = False
    assert (await app.client.get("/v2/health/live")).status_code == 200
    for path in ("/v2/health/ready", "/v2/models/strength/ready"):
        response = await app.client.get(path)
        assert_problem(response, 503)
        assert int(response.headers["retry-after"]) >= 1


async def test_a_models_tensors(client: httpx.AsyncClient) -> None:
    for path, version in (("strength", "2"), ("strength/versions/1", "1")):
        body = (await client.get(f"/v2/models/{path}")).json()
        ModelMetadata.model_validate(body)
        assert (body["name"], body["versions"]) == ("strength", ["1", "2"])
        assert body["parameters"]["version"] == version
    shapes = {one["name"]: (one["datatype"], one["shape"]) for one in body["inputs"]}
    assert shapes == {
        "input": ("FP32", [-1, 3]),
        "age": ("FP64", [-1]),
        "water": ("FP64", [-1]),
        "site": ("BYTES", [-1]),
    }
    said = {one["name"]: one["parameters"] for one in body["inputs"]}
    assert said["input"]["columns"] == ["age", "water", "site"]
    assert said["site"]["categories"] == ["north", "south", "west"]
    assert [said[name]["missing_allowed"] for name in ("age", "water")] == [False, True]
    outputs = {one["name"]: one["parameters"]["mode"] for one in body["outputs"]}
    assert outputs == {
        "output": "eval", "mean": "mc_dropout", "std": "mc_dropout", "quantiles": "mc_dropout",
        "samples": "mc_dropout",
    }  # fmt: skip


async def test_what_metadata_say_is_what_infer_takes_and_gives(client: httpx.AsyncClient) -> None:
    """A request made from the metadata alone, for every model, in both of its forms."""
    for model in ("strength", "species", "plain", "gaussian"):
        body = (await client.get(f"/v2/models/{model}")).json()
        table, *features = body["inputs"]
        filled = [
            one | {"shape": [2]} | {"data": one["parameters"].get("categories", [1.0, 2.0])[:2]}
            for one in features
        ]
        whole = table | {"shape": [2, len(features)], "data": [1.0] * 2 * len(features)}
        for inputs in ([whole], filled):
            for mode in ("eval", "mc_dropout"):
                due = [one for one in body["outputs"] if one["parameters"]["mode"] == mode]
                if not due:
                    assert model == "plain"
                    continue
                request = {
                    "inputs": inputs,
                    "parameters": {"mode": mode, "n_samples": 4},
                    "outputs": [{"name": one["name"]} for one in due],
                }
                InferRequest.model_validate(request)
                response = await client.post(f"/v2/models/{model}/infer", json=request)
                assert response.status_code == 200, response.text
                for said, got in zip(due, response.json()["outputs"], strict=True):
                    assert (said["name"], said["datatype"]) == (got["name"], got["datatype"])
                    assert len(said["shape"]) == len(got["shape"])
                    assert all(
                        a in (-1, b) for a, b in zip(said["shape"], got["shape"], strict=True)
                    )
                    assert len(got["data"]) == np.prod(got["shape"])
                    labels = said["parameters"].get("labels")
                    assert labels is None or len(labels) == got["shape"][-1]


async def test_classes_have_labels(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v2/models/species")).json()
    said = {one["name"]: one for one in body["outputs"]}
    assert said["label"]["datatype"] == "BYTES"
    assert said["output"]["parameters"]["labels"] == ["Adelie", "Chinstrap", "Gentoo"]
    by_name = {name for name, one in said.items() if one["parameters"]["by_name_only"]}
    assert by_name == {"samples", "entropy", "mutual_information"}


async def test_the_index(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await serve()
    for content in (b"", b"{}", b'{"ready": true}', b'{"ready": false, "repository_name": ""}'):
        response = await app.client.post("/v2/repository/index", content=content)
        entries = {(one["name"], one["version"]): one for one in response.json()}
        assert {("strength", "1"), ("strength", "2"), ("species", "1")} <= set(entries)
        for entry in entries.values():
            IndexEntry.model_validate(entry)
            assert (entry["state"], entry["reason"]) == ("READY", "")
    for content, status in ((b"{", 400), (b"[]", 422), (b'{"ready": 1}', 422)):
        assert_problem(await app.client.post("/v2/repository/index", content=content), status)


async def test_a_version_that_cannot_be_loaded_is_not_ready(serve: Callable, home) -> None:
    for folder in (home / "models" / "strength").glob("1-*"):
        (folder / "weights.safetensors").write_bytes(b"damaged")
    app = await serve()
    assert_problem(await app.client.get("/v2/models/strength/versions/1/ready"), 503)
    assert (await app.client.get("/v2/models/strength/ready")).status_code == 200
    entries = (await app.client.post("/v2/repository/index")).json()
    states = {(one["name"], one["version"]): one["state"] for one in entries}
    assert states["strength", "1"] == "UNAVAILABLE"
    assert states["strength", "2"] == "READY"
    ready = (await app.client.post("/v2/repository/index", json={"ready": True})).json()
    assert ("strength", "1") not in {(one["name"], one["version"]) for one in ready}
