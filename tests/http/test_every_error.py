"""Each status of the contract, once under /v1 and once under /v2: one shape everywhere."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.schemas import Problem
from tests.http.conftest import STRENGTH_ROW

pytestmark = pytest.mark.anyio

V1 = ("/v1/models/{}:predict", {"instances": [STRENGTH_ROW]})
AGE = {"name": "age", "shape": [1], "datatype": "FP32", "data": [28.0]}
V2 = ("/v2/models/{}/infer", {"inputs": [AGE]})

# Settings, method, what the path lacks, headers, body if not the right one; then the status and
# the headers that it has to bring.
ERRORS: dict[str, tuple[dict, str, str, dict, Any, int, tuple[str, ...]]] = {
    "not JSON": ({}, "POST", "strength", {}, b"{", 400, ()),
    "no address": ({}, "POST", "strength", {"Host": "[::1"}, b"{", 400, ()),
    "no key": ({"keys": "required"}, "POST", "strength", {}, None, 401, ("www-authenticate",)),
    "foreign name": ({}, "POST", "strength", {"Host": "evil.example"}, None, 403, ()),
    "no model": ({}, "POST", "nobody", {}, None, 404, ()),
    "no such method": ({}, "PATCH", "strength", {}, None, 405, ("allow",)),
    "too large": ({"max_body_bytes": 1024}, "POST", "strength", {}, b" " * 2000, 413, ()),
    "wrong": ({}, "POST", "strength", {}, {}, 422, ()),
    "too often": ({"rate_limit": "1/hour"}, "POST", "strength", {}, None, 429, ("retry-after",)),
    "no room": ({"max_held_bytes": 1024}, "POST", "strength", {}, b" " * 2000, 503,
                ("retry-after",)),
}  # fmt: skip


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", ERRORS)
async def test_every_status_has_the_one_shape(serve: Callable, name: str, version: str) -> None:
    settings, method, model, headers, body, status, brings = ERRORS[name]
    path, right = V1 if version == "v1" else V2
    app = await serve(**settings)
    given = (
        {"content": body} if isinstance(body, bytes) else {"json": right if body is None else body}
    )
    for _ in range(2 if status == 429 else 1):
        response = await app.client.request(method, path.format(model), headers=headers, **given)
    check(response, status, version)
    for header in brings:
        assert response.headers[header]


async def test_what_breaks_has_it_too(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("service.inference.Inference.find", broken)
    for version, (path, body) in (("v1", V1), ("v2", V2)):
        response = await client.post(path.format("strength"), json=body)
        check(response, 500, version)
        assert "secret" not in response.text


def check(response: httpx.Response, status: int, version: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    kind = "application/problem+json" if version == "v1" else "application/json"
    assert response.headers["content-type"] == kind
    if version == "v2":
        assert isinstance(body.pop("error"), str)
    Problem.model_validate(body)
    assert set(body) - {"errors"} == {
        "type", "title", "status", "detail", "instance", "request_id",
    }  # fmt: skip
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["instance"] == response.request.url.path
    assert response.headers["x-content-type-options"] == "nosniff"
