"""Around every request, outside of all else: what it was, how it ended, how long it took."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import context
from service.metrics import UNKNOWN, Metrics

access = logging.getLogger("service.access")

# Asked every few seconds by machines.
QUIET = ("/health", "/health/live", "/health/ready", "/metrics")


class Watch:
    """ASGI middleware: counts each request, and writes its line of the access log."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        current = context.begin()
        # What a client that went away before any answer is counted as.
        status = 499

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._metrics.request_ended(current, route, scope["method"], status, seconds)
            level = logging.DEBUG if route in QUIET else logging.INFO
            if access.isEnabledFor(level):
                access.log(level, "%s %s %d", scope["method"], scope["path"], status)
