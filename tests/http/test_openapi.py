"""The document behind `/docs`: whole, true, and with no network."""

import re

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def test_every_route_is_documented_with_its_errors(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    for verb in ("predict", "uncertainty", "dropout"):
        for middle in ("", "/versions/{version}", "/labels/{alias}"):
            operation = paths[f"/v1/models/{{model}}{middle}:{verb}"]["post"]
            assert {"200", "400", "404", "413", "422", "503"} <= set(operation["responses"])
            assert operation["requestBody"]["content"]["application/json"]["schema"]
            assert operation["description"]
    for path in (
        "/v1/models", "/v1/models/{model}", "/v1/models/{model}/versions/{version}",
        "/v1/models/{model}/versions/{version}/artifact", "/v1/models/{model}/aliases/{alias}",
        "/v1/datasets", "/v1/datasets/{dataset}", "/v1/training_jobs", "/v1/training_jobs/{job}",
        "/v1/training_jobs/{job}/events", "/v1/training_jobs/{job}:cancel",
        "/v1/training_jobs/{job}:resume", "/health/live", "/health/ready",
    ):  # fmt: skip
        assert path in paths


async def test_every_reference_leads_somewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json")
    schemas = response.json()["components"]["schemas"]
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', response.text))
    assert names <= set(schemas)
    assert {"UncertaintyRequest", "TrainingJobRequest", "Problem"} <= names
    assert "$defs" not in response.text


async def test_operation_ids_are_unique(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    ids = [op["operationId"] for path in paths.values() for op in path.values()]
    assert len(ids) == len(set(ids))


async def test_docs_need_no_network(client: httpx.AsyncClient) -> None:
    door = await client.get("/")
    assert (door.status_code, door.headers["location"]) == (307, "/docs")
    page = (await client.get("/docs")).text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        assert (await client.get(address)).status_code == 200
    assert "http://" not in page
    assert "https://" not in page
