"""Traces of requests by OpenTelemetry: a span for each, with its decoding, queueing, computing
and encoding inside.

What is traced is told by `service.context`, so that nothing on a request's path knows of
OpenTelemetry; it need not be installed. Exporter, sampler and names are set by the standard
variables OTEL_*.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import Message, Scope, Send

from service.context import RequestContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

STAGES = ("decode", "queue", "compute", "encode")
# How long the last spans may take to be sent at the end.
FLUSH_SECONDS = 2.0


class TracingError(Exception):
    """Tracing is asked for, and its packages are not installed."""


def make_provider() -> TracerProvider:
    """One that sends spans by OTLP over HTTP, to where OTEL_EXPORTER_OTLP_ENDPOINT says.

    Raises:
        TracingError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import (  # noqa: PLC0415
            OTELResourceDetector,
            Resource,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise TracingError(
            f"DROPCAST_TRACING is on, and {error.name} is not installed: pip install "
            "'dropcast[tracing]'"
        ) from None
    named = Resource({"service.name": "dropcast"}).merge(OTELResourceDetector().detect())
    # `Tracing.close` ends it, within a bounded time.
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing:
    """Makes the spans of requests."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation import (  # noqa: PLC0415
            set_span_in_context,
            tracecontext,
        )

        self._provider = provider
        self._tracer = provider.get_tracer("dropcast")
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._inside = set_span_in_context
        self._kind = SpanKind.SERVER
        self._error = StatusCode.ERROR

    def begin(self, scope: Scope, request: RequestContext) -> Span:
        """The span of a request, a child of the caller's if it sent a `traceparent`."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        span = self._tracer.start_span(
            scope["method"], self._propagator.extract(headers), kind=self._kind
        )
        request.trace_id = format(span.get_span_context().trace_id, "032x")
        return span

    def announce(self, span: Span, send: Send) -> Send:
        """A `send` that tells the caller, in the response, which span was this request's."""

        async def send_announced(message: Message) -> None:
            if message["type"] == "http.response.start":
                carrier: dict[str, str] = {}
                self._propagator.inject(carrier, self._inside(span))
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in carrier.items()),
                ]
            await send(message)

        return send_announced

    def end(
        self, span: Span, request: RequestContext, scope: Scope, route: str, status: int,
        times: Sequence[float],
    ) -> None:  # fmt: skip
        """Ends it; the stages lie between `times` of `time.perf_counter()`, if there are any."""
        if span.is_recording():
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes(
                {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "url.path": scope["path"],
                    "http.response.status_code": status,
                    "dropcast.request_id": request.request_id,
                }
            )
            if request.mode:
                span.set_attributes(
                    {
                        "dropcast.model": request.model,
                        "dropcast.version": request.version,
                        "dropcast.mode": request.mode,
                    }
                )
            if status >= 500:
                span.set_status(self._error)
            self._add_stages(span, times)
        span.end()

    def _add_stages(self, span: Span, times: Sequence[float]) -> None:
        # From the clock that measures to the clock that tells the time.
        offset = time.time_ns() - time.perf_counter_ns()
        inside = self._inside(span)
        moments = [int(moment * 1e9) + offset for moment in times]
        for name, began, ended in zip(STAGES, moments, moments[1:], strict=False):
            self._tracer.start_span(name, inside, start_time=began).end(ended)

    def close(self) -> None:
        """Sends what is left, unless that takes long: the collector may be gone."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)
