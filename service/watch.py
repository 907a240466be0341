"""Around every request, outside of all else: what it was, how it ended, how long it took."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import context
from service.context import RequestContext
from service.metrics import UNKNOWN, Metrics
from service.tracing import Tracing

access = logging.getLogger("service.access")

# Asked every few seconds by machines.
QUIET = ("/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready",
         "/metrics")  # fmt: skip
# What a client that went away before any answer is counted as.
WENT_AWAY = 499


class Watch:
    """ASGI middleware: counts each request, writes its line of the access log, traces it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request = context.begin()
        span = None if self._tracing is None else self._tracing.begin(scope, request)
        status, answered = WENT_AWAY, began

        async def send_watched(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                if self._tracing is not None and span is not None:
                    self._tracing.add_headers(span, message)
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._metrics.request_ended(request, route, scope["method"], status, seconds)
            _log(scope, request, route, status, seconds)
            if self._tracing is not None and span is not None:
                stages = (began, *request.computing, answered) if request.computing else ()
                self._tracing.end(span, request, scope, route, status, stages)
            context.end()


def _log(scope: Scope, request: RequestContext, route: str, status: int, seconds: float) -> None:
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not access.isEnabledFor(level):
        return
    fields = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 6),
    }
    if request.mode:
        fields |= {"model": request.model, "version": request.version, "mode": request.mode}
    line = "%s %s %d in %.1f ms"
    values = (scope["method"], scope["path"], status, 1e3 * seconds)
    # Not by `log`, which would look for its caller through the whole stack.
    record = logging.LogRecord(access.name, level, __file__, 0, line, values, None)
    record.fields = fields
    access.handle(record)
