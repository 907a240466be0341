"""Spans of requests, as OpenTelemetry's own exporter gets them; and the lines of the log."""

import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.app import create_app
from service.logs import JsonLines, TextLines
from service.settings import Settings
from service.tracing import Tracing, TracingError
from tests.http.conftest import STRENGTH_ROW, AsyncApp
from tests.http.test_metrics import ask

pytestmark = pytest.mark.anyio

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(home: Path, exporter: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application whose spans go to the exporter."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = Settings(home=home, examples=False, threads=1)
    async with AsyncApp(create_app(settings, Tracing(provider))) as app:
        yield app.client


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the service logs meanwhile, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("service")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_a_requests_spans(traced: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "abc"}
    body = {"instances": [STRENGTH_ROW]}
    response = await traced.post(
        "/v1/models/strength/versions/1:uncertainty", json=body, headers=headers
    )
    spans = {span.name: span for span in exporter.get_finished_spans()}
    server = spans.pop("POST /v1/models/{model}/versions/{version}:uncertainty")
    assert hex_ids(server) == (TRACE, PARENT)
    assert server.kind is SpanKind.SERVER
    assert server.attributes is not None
    assert {
        "http.response.status_code": 200, "dropcast.model": "strength", "dropcast.version": "1",
        "dropcast.mode": "mc_dropout", "dropcast.request_id": "abc",
    }.items() <= server.attributes.items()  # fmt: skip
    own = format(server.get_span_context().span_id, "016x")
    assert response.headers["traceparent"] == f"00-{TRACE}-{own}-01"
    assert list(spans) == ["decode", "queue", "compute", "encode"]
    moment = server.start_time
    for span in spans.values():
        assert hex_ids(span) == (TRACE, own)
        # One after the other, within the request, to the microsecond.
        assert span.start_time is not None
        assert span.end_time is not None
        assert abs(span.start_time - moment) < 5_000 or span.name == "decode"
        assert span.end_time >= span.start_time
        moment = span.end_time
    assert server.end_time is not None
    assert moment <= server.end_time
    assert spans["compute"].end_time - spans["compute"].start_time > 10_000


def hex_ids(span: ReadableSpan) -> tuple[str, str]:
    """Of the trace, and of the parent."""
    assert span.parent is not None
    return format(span.get_span_context().trace_id, "032x"), format(span.parent.span_id, "016x")


async def test_errors_and_other_routes(
    traced: httpx.AsyncClient, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(traced, "nothing:predict", instances=[STRENGTH_ROW])
    assert [span.name for span in exporter.get_finished_spans()] == [
        "POST /v1/models/{model}:predict"
    ]
    exporter.clear()

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("service.inference.evaluate_together", broken)
    await ask(traced, "strength:predict", instances=[STRENGTH_ROW])
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    exporter.clear()
    # What the caller does not sample is not sampled here.
    quiet = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    response = await traced.get("/v1/models", headers=quiet)
    assert response.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert not exporter.get_finished_spans()


async def test_each_line_carries_the_ids(
    traced: httpx.AsyncClient, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr("service.inference.evaluate_together", broken)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "abc"}
    body = {"instances": [STRENGTH_ROW]}
    await traced.post("/v1/models/strength:predict", json=body, headers=headers)
    await traced.get("/health/live")
    await traced.get("/metrics")
    broke, access = [json.loads(line) for line in lines.getvalue().splitlines()]
    for entry in (broke, access):
        assert (entry["request_id"], entry["trace_id"]) == ("abc", TRACE)
        assert entry["time"].endswith("Z")
    assert broke["level"] == "error"
    assert "RuntimeError: the inside" in broke["exception"]
    assert access["level"] == "info"
    assert {
        "method": "POST", "path": "/v1/models/strength:predict", "status": 500,
        "model": "strength", "version": "2", "mode": "eval",
    }.items() <= access.items()  # fmt: skip
    assert 0 < access["seconds"] < 10


async def test_a_line_cannot_be_forged(client: httpx.AsyncClient, lines: io.StringIO) -> None:
    await client.get("/nothing%0a%7b%22level%22%3a%22error%22%7d")
    (entry,) = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert entry["path"] == '/nothing\n{"level":"error"}'
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", ("a\nERROR \x1b[2J b",), None)
    assert TextLines().format(record).endswith(r"INFO    a\x0aERROR \x1b[2J b")


async def test_without_tracing_there_is_no_header(client: httpx.AsyncClient) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert "traceparent" not in (await client.get("/health/live", headers=headers)).headers


def test_tracing_that_is_not_installed_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingError, match=r"dropcast\[tracing\]"):
        create_app(Settings(home=home, tracing=True))
