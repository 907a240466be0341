"""The document behind `/docs`: whole, true, and with no network."""

import re
from collections.abc import Iterator

import httpx
import pytest

from service import schemas
from service.openapi import EXAMPLES
from service.schemas import parse

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


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
    page = (await client.get("/docs")).text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        assert (await client.get(address)).status_code == 200
    assert "http://" not in page
    assert "https://" not in page


def objects(value: object) -> Iterator[dict]:
    """All objects in a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from objects(part)


async def test_a_reference_stands_alone(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for part in objects(document):
        assert not ("$ref" in part and "type" in part), part
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/json", {})
                if status[0] == "2" and content and path.startswith("/v1/"):
                    assert list(content["schema"]) == ["$ref"], (path, status)


async def test_every_request_has_an_example_that_is_one(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    shown = {
        content["schema"]["$ref"].rpartition("/")[2]: content["example"]
        for path in document["paths"].values()
        for operation in path.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if "$ref" in content.get("schema", {})
    }
    assert shown == {kind.__name__: example for kind, example in EXAMPLES.items()}
    for name, example in shown.items():
        parse(getattr(schemas, name), example)
