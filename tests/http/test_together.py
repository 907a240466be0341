"""Requests that come at the same time are computed together, and nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.http.conftest import STRENGTH_ROW, AsyncApp

pytestmark = pytest.mark.anyio

URL = "/v1/models/strength:uncertainty"
ROWS = [STRENGTH_ROW | {"age": float(age)} for age in range(10, 22)]


async def executions(client: httpx.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    counted = [line for line in lines if line.startswith("dropcast_executions_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counted)


async def at_once(client: httpx.AsyncClient, url: str, bodies: list[dict]) -> list[httpx.Response]:
    return await asyncio.gather(*(client.post(url, json=body) for body in bodies))


@pytest.mark.parametrize(
    ("url", "options", "is_shared"),
    [
        ("/v1/models/strength:predict", {}, True),
        (URL, {}, True),
        (URL, {"estimator": "mc", "quantiles": [0.3], "coverage": 0.5}, True),
        ("/v1/models/gaussian:uncertainty", {"estimator": "stratified", "n_samples": 7}, True),
        ("/v1/models/strength/versions/1:uncertainty", {"estimator": "analytic"}, False),
        ("/v1/models/dropconnect:uncertainty", {"n_samples": 7}, False),
    ],
)
async def test_together_each_gets_the_bits_of_one_alone(
    serve: Callable[..., AsyncApp], url: str, options: dict, is_shared: bool
) -> None:
    client = (await serve()).client
    bodies = [{"instances": [row], **options} for row in ROWS]
    alone = [await client.post(url, json=body) for body in bodies]
    before = await executions(client)
    assert before == len(bodies)
    together = await at_once(client, url, bodies)
    assert [answer.status_code for answer in together] == [200] * len(bodies)
    assert [answer.content for answer in together] == [answer.content for answer in alone]
    computed = await executions(client) - before
    assert computed < len(bodies) / 2 if is_shared else computed == len(bodies)


async def test_what_differs_is_not_mixed(serve: Callable[..., AsyncApp]) -> None:
    client = (await serve()).client
    different = [{"seed": 1}, {"seed": None}, {"n_samples": 50}, {"quantiles": [0.5]}]
    different += [{"tolerance": 0.5}, {"tolerance": 0.5}, {"seed": 2}, {"estimator": "mc"}]
    bodies = [{"instances": [STRENGTH_ROW], **options} for options in different]
    answers = await at_once(client, URL, bodies)
    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    assert await executions(client) == len(bodies)
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.json()["n_samples"] == body.get("n_samples", 100)
        if body.get("seed") is not None:
            assert answer.json()["seed"] == body["seed"]


async def test_a_fault_is_told_to_its_own_request_alone(
    serve: Callable[..., AsyncApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = (await serve()).client
    bad = [{"age": "old"}, STRENGTH_ROW | {"age": 1e300}]
    bodies = [{"instances": [row]} for row in (ROWS[0], *bad, ROWS[1])]
    answers = await at_once(client, URL, bodies)
    assert [answer.status_code for answer in answers] == [200, 422, 422, 200]

    # What is wrong with all of them is told to each.
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("service.inference.draw_together", broken)
    answers = await at_once(client, URL, bodies)
    assert [answer.status_code for answer in answers] == [500, 422, 422, 500]
