"""Around every request, outside of all else: what it was, how it ended, how long it took."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from service import context
from service.context import RequestContext
from service.metrics import UNKNOWN, Metrics
from service.tracing import Tracing

access = logging.getLogger("service.access")

# Asked every few seconds by machines.
QUIET = ("/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready",
         "/metrics")  # fmt: skip


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
        if self._tracing is not None and span is not None:
            send = self._tracing.announce(span, send)
        try:
            await self._app(scope, receive, send)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._metrics.request_ended(request, route, scope["method"], request.status, seconds)
            _log(scope, request, route, request.status, seconds)
            if self._tracing is not None and span is not None:
                answered = began if request.answered is None else request.answered
                stages = (began, *request.computing, answered) if request.computing else ()
                self._tracing.end(span, request, scope, route, request.status, stages)
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
