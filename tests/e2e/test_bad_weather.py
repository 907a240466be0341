"""Processes that are told to end, and clients that are too slow or speak no HTTP."""

import json
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from models.recipe import Recipe
from models.training_run import TrainingOptions
from tests.e2e.conftest import API_ALONE, PENGUINS, Service
from tests.http.conftest import STRENGTH_ROW, publish, strength_table

ASK = "/v1/models/strength:uncertainty"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one model."""
    home = tmp_path_factory.mktemp("trained") / "home"
    options = TrainingOptions(epochs=2, batch_size=32)
    publish(
        home, "strength", strength_table(), Recipe("strength", hidden=(512, 512), training=options)
    )
    return home


def started(service: Callable[..., Service], home: Path, **settings: object) -> Service:
    one = service(**settings)
    one.environment["DROPCAST_HOME"] = str(home)
    one.start(API_ALONE)
    return one


def ask_long(one: Service, n_rows: int) -> Future[httpx.Response]:
    """A request that takes a while: a second or more for a thousand rows."""
    body = {"instances": [STRENGTH_ROW] * n_rows, "n_samples": 100, "estimator": "mc"}
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(httpx.post, f"{one.client.base_url}{ASK}", json=body, timeout=60)
    pool.shutdown(wait=False)
    return answer


def listen(one: Service, opened: threading.Event) -> str:
    """All of a live stream of a job that waits for a worker."""
    dataset = one.upload(PENGUINS)["id"]
    job = one.submit(model="birds", dataset=dataset, target="species")["id"]
    headers = {"Accept": "text/event-stream"}
    text = ""
    path = f"{one.client.base_url}/v1/training_jobs/{job}/events"
    with httpx.stream("GET", path, headers=headers, timeout=60) as response:
        for part in response.iter_text():
            text += part
            opened.set()
    return text


def test_sigterm_drains(service: Callable[..., Service], trained: Path) -> None:
    """Not ready but answering, streams at their end, requests under way finished, then 0."""
    one = started(service, trained, drain_seconds=2)
    opened = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(listen, one, opened)
        assert opened.wait(30)
        answer = ask_long(one, 2000)
        assert one.process is not None
        one.process.send_signal(signal.SIGTERM)
        one.wait_until(lambda: one.client.get("/health/ready").status_code == 503, 2)
        assert "event: status" in stream.result(5)
    body = {"instances": [STRENGTH_ROW]}
    assert one.client.post(ASK, json=body).status_code == 200, "it still accepts"
    assert one.client.get("/health/live").status_code == 200
    assert one.process.wait(60) == 0
    assert answer.result().status_code == 200
    assert len(answer.result().json()["predictions"]) == 2000


def test_what_is_not_done_within_the_grace_time_is_told_so(
    service: Callable[..., Service], trained: Path
) -> None:
    one = started(service, trained, shutdown_seconds=1, max_waiting=1)
    answer = ask_long(one, 10_000)
    empty = b" " * 20_000
    one.wait_until(lambda: one.client.post(ASK, content=empty).status_code == 503, 20)
    assert one.stop() == 0
    response = answer.result()
    assert response.status_code == 503
    assert response.json()["type"] == "urn:dropcast:problem:not-ready"


def test_clients_that_dawdle_or_speak_no_http(
    service: Callable[..., Service], trained: Path
) -> None:
    one = started(service, trained, receive_seconds=1, max_connections=40)

    def say(text: bytes) -> tuple[int, dict]:
        with socket.create_connection(("127.0.0.1", one.port), 10) as connection:
            connection.sendall(text)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        problem = json.loads(body)
        assert problem["request_id"].encode() in head
        assert problem["status"] == int(head.split()[1])
        return problem["status"], problem

    assert say(b"")[0] == 408
    assert say(b"GET / HTTP/1.1\r\nHost: x\r\n")[0] == 408
    assert (
        say(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he".replace(b"GET /health", b"BAD"))[0]
        == 400
    )
    assert say(b"\x16\x03\x01\x02\x00\x01\x00")[0] == 400
    for end in (b"", b"\r\n\r\n"):
        assert say(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40_000 + end)[0] == 431
    assert say(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 431
    post = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{" % ASK.encode()
    assert say(post)[0] == 408
    idle = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(45)]
    try:
        refused = idle[-1].recv(65536)
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in refused
    finally:
        for connection in idle:
            connection.close()
    one.wait_until(lambda: one.client.get("/health").status_code == 200, 5)
    assert one.stop() == 0
