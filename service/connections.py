"""Connections: uvicorn's, with limits on those that ask for nothing and take nothing."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request's line and headers together; beyond it 431.
MOST_HEAD_BYTES = 32 * 2**10
# Seconds in which a client has to take something of an answer that waits for it.
SECONDS_TO_TAKE = 30.0


def limited(most_connections: int, head_seconds: float) -> type[asyncio.Protocol]:
    """A protocol for `uvicorn.Config(http=…)`: so many connections at most, and so much time
    for the head of a request."""

    class Connection(_Connection):
        most = most_connections
        seconds = head_seconds

    return Connection


class _Connection(HttpToolsProtocol):
    most: int
    seconds: float
    _head_timer: asyncio.TimerHandle | None = None
    _taking_timer: asyncio.TimerHandle | None = None
    _left_to_take = 0
    # Of the head that is being read: what came since it began, and what is known of it.
    _head_received = 0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "Too much to do at the moment", "too many connections are open")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        awaited = not self._is_in_request()
        super().data_received(data)
        if not self._is_in_request():
            self._await_head()
            self._head_received += len(data) if awaited else 0
            if self._head_received > MOST_HEAD_BYTES:
                self._refuse_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)  # of ": " and the line's end

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_received = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What is written has not been taken yet: the client may not read at all.
        self._watch_taking()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching()

    def send_400_response(self, msg: str) -> None:
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse_head()
        else:
            self._refuse(400, "Not an HTTP request", msg)

    def _count_head(self, n_bytes: int) -> None:
        self._head_bytes += n_bytes
        if self._head_bytes > MOST_HEAD_BYTES:
            # Ends the parsing; the parser's error leads to `send_400_response`.
            raise ValueError("the head is too large")

    def _refuse_head(self) -> None:
        message = f"its line and headers have more than the {MOST_HEAD_BYTES} bytes allowed"
        self._refuse(431, "Request Header Fields Too Large", message)

    def _is_in_request(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.seconds, self._end_without_head)

    def _end_without_head(self) -> None:
        self._head_timer = None
        if not self._is_in_request() and not self.transport.is_closing():
            self._refuse(408, "The request came too slowly", "its head did not come in time")

    def _watch_taking(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if self._taking_timer is None and waiting:
            self._left_to_take = waiting
            self._taking_timer = self.loop.call_later(SECONDS_TO_TAKE, self._end_untaken)

    def _stop_watching(self) -> None:
        if self._taking_timer is not None:
            self._taking_timer.cancel()
            self._taking_timer = None

    def _end_untaken(self) -> None:
        self._taking_timer = None
        if self.transport.get_write_buffer_size() >= self._left_to_take:
            self.transport.abort()
        else:
            self._watch_taking()

    def _refuse(self, status: int, title: str, detail: str) -> None:
        """Answers in the form of every error, and closes; the request has no address yet."""
        request_id = uuid.uuid4().hex
        problem = {
            "type": f"urn:dropcast:problem:{title.lower().replace(' ', '-')}",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": "",
            "request_id": request_id,
        }
        body = orjson.dumps(problem)
        headers = [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(body))),
            ("X-Request-Id", request_id),
            ("Connection", "close"),
            *([("Retry-After", "1")] if status == 503 else []),
        ]
        lines = [f"HTTP/1.1 {status} {title}", *(f"{name}: {value}" for name, value in headers)]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()
