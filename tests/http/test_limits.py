"""Clients that are too many, too slow, too heavy, or gone: an honest answer, and nothing kept."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from fastapi import FastAPI

from models import sampling
from models.cancellation import ComputationCancelledError
from service.inference import Inference
from tests.http.conftest import STRENGTH_ROW, AsyncApp
from tests.http.test_bad_requests import P, U, ask, assert_problem

pytestmark = pytest.mark.anyio

LARGE = {"instances": [STRENGTH_ROW] * 200}


@contextmanager
def held(inference: Inference) -> Iterator[None]:
    """Both threads that compute are kept busy."""
    hold = threading.Event()
    blocked = [inference._threads.submit(hold.wait) for _ in range(2)]
    try:
        yield
    finally:
        hold.set()
        assert all(future.result(10) for future in blocked)


class Client:
    """One request to the application as a server hands it over; it can go away."""

    def __init__(self, app: FastAPI, path: str, body: bytes, *, sends_all: bool = True) -> None:
        self._inbox: asyncio.Queue[dict] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": not sends_all})
        self.sent: list[dict] = []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "scheme": "http", "headers": [(b"host", b"test")], "client": ("127.0.0.1", 1),
            "server": ("test", 80), "state": {},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._inbox.get, self._send))

    async def _send(self, message: dict) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_work_of_a_client_that_goes_away_before_its_turn_is_dropped(
    serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve(max_waiting=1)
    computed = []
    monkeypatch.setattr("service.inference.draw_samples", lambda *_: computed.append(1))
    inference = app.app.state.inference
    with held(inference):
        client = Client(app.app, U, json.dumps(LARGE).encode())
        await until(lambda: inference.is_full)
        assert_problem(await app.client.post(U, json=LARGE), 503)
        client.leave()
        await client.task
        assert not inference.is_full
    await until(inference._threads._work_queue.empty)
    assert client.sent == []
    assert computed == []


async def test_computing_for_a_client_that_goes_away_ends_at_the_next_block(
    serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve()
    monkeypatch.setattr(sampling, "BLOCK_FLOATS", 2**7)
    third, gone, ended = threading.Event(), threading.Event(), threading.Event()
    blocks = 0
    stop_if_cancelled = sampling.stop_if_cancelled

    def count() -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 3:
            third.set()
            gone.wait(10)
        try:
            stop_if_cancelled()
        except ComputationCancelledError:
            ended.set()
            raise

    monkeypatch.setattr(sampling, "stop_if_cancelled", count)
    client = Client(app.app, U, json.dumps(LARGE | {"estimator": "mc"}).encode())
    assert await asyncio.to_thread(third.wait, 10)
    client.leave()
    await client.task
    gone.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert client.sent == []
    assert blocks == 3, "the block under way was the last"
    assert (await app.client.post(U, json=LARGE)).status_code == 200
    assert blocks > 10


async def test_an_answer_that_takes_too_long_is_503(serve: Callable) -> None:
    app = await serve(request_seconds=0.05)
    with held(app.app.state.inference):
        response = await app.client.post(U, json=LARGE)
    assert "0.05 seconds" in assert_problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "1"
    assert not app.app.state.inference._waiting


async def test_requests_under_way_are_limited(serve: Callable) -> None:
    app = await serve(max_requests=1)
    with held(app.app.state.inference):
        first = asyncio.create_task(app.client.post(U, json=LARGE))
        await until(lambda: app.app.state.inference._waiting == 1)
        for method, path in (("POST", P), ("GET", "/v1/models"), ("GET", "/nothing")):
            response = await app.client.request(method, path)
            assert_problem(response, 503)
            assert response.headers["retry-after"] == "1"
        for path in ("/health", "/health/live", "/health/ready"):
            assert (await app.client.get(path)).status_code == 200
    assert (await first).status_code == 200
    assert (await app.client.post(P, json=ask())).status_code == 200


async def never_read() -> AsyncIterator[bytes]:
    """A body that fails the test when somebody reads it."""
    yield b""
    pytest.fail("the body was read")


async def test_large_bodies_are_not_read_while_the_queue_is_full(serve: Callable) -> None:
    app = await serve(max_waiting=1)
    with held(app.app.state.inference):
        first = asyncio.create_task(app.client.post(U, json=LARGE))
        await until(lambda: app.app.state.inference.is_full)
        headers = {"Content-Length": "100000"}
        request = app.client.build_request("POST", P, content=never_read(), headers=headers)
        assert_problem(await app.client.send(request), 503)
        assert (await app.client.post(P, json=ask())).status_code == 200, "small ones go on"
    assert (await first).status_code == 200


async def test_bodies_in_memory_are_limited_together(serve: Callable) -> None:
    app = await serve(max_held_bytes=12_000)
    body = json.dumps(LARGE).encode()
    assert 6_000 < len(body) < 12_000
    with held(app.app.state.inference):
        first = asyncio.create_task(app.client.post(U, content=body))
        await until(lambda: app.app.state.inference._waiting == 1)
        response = await app.client.post(U, content=body)
        assert f"bodies of {len(body)} bytes" in assert_problem(response, 503)["detail"]
        assert (await app.client.post(P, json=ask())).status_code == 200
    assert (await first).status_code == 200
    for _ in range(3):
        assert (await app.client.post(U, content=body)).status_code == 200, "all is released"


async def test_a_body_that_does_not_come_is_408(serve: Callable) -> None:
    app: AsyncApp = await serve(receive_seconds=0.05)
    client = Client(app.app, P, b'{"instances"', sends_all=False)
    await client.task
    start, body = client.sent
    assert start["status"] == 408
    assert json.loads(body["body"])["type"] == "urn:dropcast:problem:too-slow"
    assert (b"connection", b"close") in start["headers"]
    assert (await app.client.post(P, json=ask())).status_code == 200


async def test_a_body_that_comes_steadily_may_take_longer(serve: Callable) -> None:
    app = await serve(receive_seconds=0.2)
    body = json.dumps(LARGE).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for i in range(0, len(body), 2000):
            yield body[i : i + 2000]
            await asyncio.sleep(0.05)

    assert (await app.client.post(P, content=in_pieces())).status_code == 200


async def test_a_client_that_leaves_while_sending_leaves_nothing_behind(serve: Callable) -> None:
    app = await serve(max_held_bytes=20_000, max_requests=1)
    for _ in range(3):
        client = Client(app.app, P, b"[" * 15_000, sends_all=False)
        client.leave()
        await client.task
        assert client.sent == []
    response: httpx.Response = await app.client.post(P, json=ask())
    assert response.status_code == 200
