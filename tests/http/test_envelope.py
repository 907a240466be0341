"""Request ids, the last resort, overload, health."""

import asyncio
import threading
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.http.conftest import STRENGTH_ROW
from tests.http.test_bad_requests import P, U, ask, assert_problem

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


@pytest.mark.parametrize("path", ["/health/live", "/v1/models", "/nothing", "/docs"])
async def test_every_response_carries_a_request_id(client: httpx.AsyncClient, path: str) -> None:
    own = await client.get(path, headers={"X-Request-Id": "abc-123"})
    assert own.headers["x-request-id"] == "abc-123"
    given = {(await client.get(path)).headers["x-request-id"] for _ in range(3)}
    assert len(given) == 3


@pytest.mark.parametrize("bad", ["", "x" * 200, "a b", "a\tb"])
async def test_an_id_that_could_not_stand_in_a_log_is_replaced(
    client: httpx.AsyncClient, bad: str
) -> None:
    response = await client.get("/health/live", headers={"X-Request-Id": bad})
    assert response.headers["x-request-id"] not in ("", bad)


async def test_pages_load_nothing_from_elsewhere_and_stand_in_no_frame(
    client: httpx.AsyncClient,
) -> None:
    page = (await client.get("/docs")).headers
    assert page["content-security-policy"].startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    assert page["x-frame-options"] == "DENY"
    data = (await client.get("/v1/models")).headers
    assert "content-security-policy" not in data
    for headers in (page, data):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


async def test_what_breaks_inside_stays_inside(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr("service.inference.evaluate_together", broken)
    problem = assert_problem(await client.post(P, json=ask()), 500)
    assert "secret" not in str(problem)
    assert "secret of the inside" in caplog.text
    assert problem["request_id"] in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT", {}, Exception("connection refused")),
        InterfaceError("SELECT", {}, Exception("the connection is closed")),
        PoolTimeoutError("QueuePool limit reached"),
    ],
)
async def test_a_database_that_does_not_answer_is_503(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise error

    for method in ("page", "get"):
        monkeypatch.setattr(f"service.jobs.Jobs.{method}", gone)
    monkeypatch.setattr("service.registry.Registry.snapshot", gone)
    for path in ("/v1/training_jobs", "/v1/training_jobs/x", "/health/ready"):
        response = await client.get(path)
        problem = assert_problem(response, 503)
        assert "database" in problem["detail"]
        assert response.headers["retry-after"] == "2"
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.post(P, json=ask())).status_code == 200, "loaded versions go on"


async def test_too_many_waiting_requests_get_503_and_small_ones_go_on(
    serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve(max_waiting=2)
    hold = threading.Event()
    compute = app.app.state.inference._threads
    blocked = [compute.submit(hold.wait) for _ in range(2)]
    large = {"instances": [STRENGTH_ROW] * 200}
    waiting = [asyncio.create_task(app.client.post(U, json=large)) for _ in range(2)]
    while app.app.state.inference._waiting < 2:
        await asyncio.sleep(0.01)
    response = await app.client.post(U, json=large)
    assert_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert (await app.client.post(P, json=ask())).status_code == 200
    hold.set()
    assert [r.status_code for r in await asyncio.gather(*waiting)] == [200, 200]
    assert all(future.result() for future in blocked)


async def test_live_and_ready(serve: Callable) -> None:
    app = await serve()
    for path in ("/health", "/health/live"):
        response = await app.client.get(path)
        assert (response.status_code, response.json()) == (200, {"live": True})
    response = await app.client.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"ready": True})
    app.app.state.is_ready = False
    response = await app.client.get("/health/ready")
    assert_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1


async def test_a_service_without_models_is_ready(serve: Callable, tmp_path) -> None:
    app = await serve(home=tmp_path / "empty")
    assert (await app.client.get("/health/ready")).status_code == 200
    assert (await app.client.get("/v1/models")).json()["data"] == []
    assert_problem(await app.client.post(P, json=ask()), 404)
