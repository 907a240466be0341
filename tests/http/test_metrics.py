"""`/metrics`: what was asked is what is counted, and a hostile client adds no series."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families
from pyarrow.compute import stddev

from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW, AsyncApp, strength_table

pytestmark = pytest.mark.anyio

Figures = dict[str, list[tuple[dict[str, str], float]]]


async def scrape(client: httpx.AsyncClient) -> Figures:
    """All samples by name."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Figures = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(figures: Figures, name: str, **labels: str) -> float:
    """The sum over all series with these labels; 0 if there is none."""
    return sum(number for found, number in figures.get(name, []) if labels.items() <= found.items())


async def ask(client: httpx.AsyncClient, path: str, **body: object) -> httpx.Response:
    return await client.post(f"/v1/models/{path}", json=body)


async def test_what_is_asked_is_counted(client: httpx.AsyncClient) -> None:
    odd = {"age": 5000.0, "water": None, "site": "moon"}
    for _ in range(3):
        await ask(client, "strength:predict", instances=[STRENGTH_ROW, odd])
    answer = await ask(
        client, "strength/versions/1:uncertainty", instances=[STRENGTH_ROW] * 5, n_samples=50,
        estimator="mc",
    )  # fmt: skip
    asked = await ask(client, "species:uncertainty", instances=[SPECIES_ROW], n_samples=100)
    await ask(client, "strength:predict", instances=[{"age": "old"}])
    seen = await scrape(client)

    eval_mode = {"model": "strength", "version": "2", "mode": "eval"}
    mc = {"model": "strength", "version": "1", "mode": "mc_dropout"}
    assert value(seen, "dropcast_requests_total", **eval_mode, status="200") == 3
    assert value(seen, "dropcast_requests_total", **eval_mode, status="422") == 1
    assert value(seen, "dropcast_requests_total", **mc, status="200") == 1
    assert value(seen, "dropcast_inferences_total", **eval_mode) == 6
    assert value(seen, "dropcast_executions_total", **eval_mode) == 3
    assert value(seen, "dropcast_inferences_total", **mc) == 5
    assert value(seen, "dropcast_samples_requested_total", **mc) == 250
    assert value(seen, "dropcast_samples_used_total", **mc) == 250
    for flag in ("out_of_range", "unknown_category", "missing"):
        assert value(seen, "dropcast_flags_total", **eval_mode, flag=flag) == 3
    assert value(seen, "dropcast_request_duration_seconds_count", **eval_mode) == 4
    assert 0 < value(seen, "dropcast_request_duration_seconds_sum", **eval_mode) < 10
    assert value(seen, "dropcast_compute_seconds_total", **mc) > 0

    # The answer's own std over that of the target, of which training had a part of the rows.
    stds = [row["std"] for row in answer.json()["predictions"]]
    ratio = value(seen, "dropcast_predictive_std_ratio_sum", **mc) / sum(stds)
    assert value(seen, "dropcast_predictive_std_ratio_count", **mc) == 5
    assert 1 / ratio == pytest.approx(stddev(strength_table()["strength"]).as_py(), rel=0.1)
    row = asked.json()["predictions"][0]
    assert value(seen, "dropcast_predictive_entropy_nats_sum") == pytest.approx(row["entropy"])
    abstained = row["decision"] == "abstain"
    assert value(seen, "dropcast_abstentions_total", model="species") == int(abstained)
    used = asked.json()["samples_used"]
    assert value(seen, "dropcast_samples_used_total", model="species") == used < 100
    assert value(seen, "dropcast_loaded_versions", model="strength", version="1") == 1


async def test_unknown_names_add_at_most_one_series(client: httpx.AsyncClient) -> None:
    await ask(client, "nothing-0:predict", instances=[STRENGTH_ROW])
    before = await scrape(client)
    for i in range(1, 30):
        await ask(client, f"nothing-{i}:predict", instances=[STRENGTH_ROW])
        await client.get(f"/nothing/{i}")
        await client.request(f"HACK{i}", "/health/live")
    for version in ("77", "latest"):
        await ask(client, f"strength/versions/{version}:predict", instances=[STRENGTH_ROW])
    after = await scrape(client)
    unknown = [s for s in after["dropcast_requests_total"] if s[0]["model"] == "_unknown"]
    assert [number for _, number in unknown] == [30]
    assert not any("nothing" in str(labels) for rows in after.values() for labels, _ in rows)
    # One for pages that are not there, one for methods that are not, one for each of the two
    # routes asked last.
    grown = len(after["dropcast_http_requests_total"]) - len(before["dropcast_http_requests_total"])
    assert grown <= 4
    lost = {"model": "strength", "version": "_unknown", "mode": "eval", "status": "404"}
    assert value(after, "dropcast_requests_total", **lost) == 2


async def test_openmetrics_for_those_who_ask(client: httpx.AsyncClient) -> None:
    await ask(client, "strength:predict", instances=[STRENGTH_ROW])
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    response = await client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(response.text)}
    assert {"dropcast_requests", "dropcast_process_cpu_seconds", "dropcast_build"} <= names


async def test_waiting_requests_are_the_queue(
    serve: Callable[..., AsyncApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve()
    monkeypatch.setattr("service.inference.INLINE_ROWS", 0)
    depths: list[float] = []
    told = app.app.state.metrics.queue
    monkeypatch.setattr(
        app.app.state.metrics, "queue", lambda depth: (depths.append(depth), told(depth))
    )
    await asyncio.gather(
        *(ask(app.client, "strength:predict", instances=[STRENGTH_ROW]) for _ in range(4))
    )
    assert max(depths) > 1
    assert depths[-1] == 0
    seen = await scrape(app.client)
    assert value(seen, "dropcast_queue_depth") == 0
    assert value(seen, "dropcast_queue_seconds_total", model="strength") > 0


async def test_processes_that_share_a_folder_answer_for_each_other(
    serve: Callable[..., AsyncApp], tmp_path: Path
) -> None:
    """And what a process has counted outlives it, as long as the folder does."""
    folder = tmp_path / "figures"
    one, other = await serve(metrics_folder=folder), await serve(metrics_folder=folder)
    for app, times in ((one, 2), (other, 3)):
        for _ in range(times):
            await ask(app.client, "strength:predict", instances=[STRENGTH_ROW])
    for app in (one, other):
        seen = await scrape(app.client)
        assert value(seen, "dropcast_requests_total", mode="eval") == 5
        assert value(seen, "dropcast_request_duration_seconds_count", mode="eval") == 5
        assert value(seen, "dropcast_loaded_versions", model="strength", version="2") == 2
    other.app.state.metrics.close()
    seen = await scrape(one.client)
    assert value(seen, "dropcast_requests_total", mode="eval") == 5
    assert value(seen, "dropcast_loaded_versions", model="strength", version="2") == 1
