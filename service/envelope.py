"""Around every request: its id, the limit on its body, and the last resort when all else fails."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import context
from service.caller import hold
from service.encodings import inflate, is_plain
from service.errors import NotJsonError, NotReadyError, TooLargeError, internal_error, respond

log = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")

_ON_ALL = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
# Nothing from elsewhere, and no frame of somebody else's page around ours.
_ON_PAGES = (
    *_ON_ALL,
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Envelope:
    """ASGI middleware: names each request, and answers when a handler breaks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        request = context.current() or context.begin()
        request.request_id = request_id.decode()
        scope.setdefault("state", {})["request_id"] = request.request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status, request.answered = message["status"], time.perf_counter()
                headers = message.get("headers", ())
                message["headers"] = [*headers, (b"x-request-id", request_id), *_guards(headers)]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except asyncio.CancelledError:
            # The grace time of an ending process is up.
            if request.answered is None:
                error = NotReadyError("the service stops before it could answer", 1)
                await respond(Request(scope), error)(scope, receive, send_named)
            raise
        except ClientDisconnect:
            log.debug("client of request %s went away", request.request_id)
        except Exception:
            log.exception("request %s broke", request.request_id)
            if request.answered is None:
                await internal_error(Request(scope))(scope, receive, send_named)


def _guards(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers that keep browsers from doing more with an answer than reading it, except those
    that it brings itself."""
    given = dict(headers)
    is_page = given.get(b"content-type", b"").startswith(b"text/html")
    return [guard for guard in (_ON_PAGES if is_page else _ON_ALL) if guard[0] not in given]


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTABLE_ID.fullmatch(value):
            return bytes(value)
    return next(_random_ids)


def _make_ids(at_once: int = 256) -> Iterator[bytes]:
    """Ids of 128 random bits, which nobody can guess from those he has seen. The system is asked
    for many at a time: each call of it takes longer than all else here."""
    while True:
        digits = os.urandom(16 * at_once).hex().encode()
        yield from (digits[i : i + 32] for i in range(0, len(digits), 32))


_random_ids = _make_ids()


async def body_chunks(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body, piece by piece.

    Raises:
        TooLargeError: it has more bytes than that.
    """
    _check_declared(request, most_bytes)
    left, has_more = most_bytes, True
    while has_more:
        chunk, has_more = await _next_chunk(request)
        left -= len(chunk)
        if left < 0:
            raise _too_large(most_bytes)
        yield chunk


def _check_declared(request: Request, most_bytes: int) -> None:
    declared = _values_of(b"content-length", request.scope)[:1]
    if declared and declared[0].isdigit() and int(declared[0]) > most_bytes:
        raise _too_large(most_bytes)


async def _next_chunk(request: Request) -> tuple[bytes, bool]:
    """The next piece, and whether there are more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _too_large(most_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body has more than the {most_bytes} bytes that are allowed")


def _values_of(header: bytes, scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == header]


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body, unpacked if it is compressed; in memory until the request ends.

    Raises:
        TooLargeError: it has more bytes than that, packed or unpacked.
        MalformedError, UnsupportedEncodingError: it cannot be unpacked.
        OverloadedError: it has no room beside the bodies of other requests.
    """
    _check_declared(request, most_bytes)
    chunks, left, has_more = [], most_bytes, True
    while has_more:  # not by `body_chunks`, which takes longer than a small body does
        chunk, has_more = await _next_chunk(request)
        left -= len(chunk)
        if left < 0:
            raise _too_large(most_bytes)
        hold(len(chunk))
        chunks.append(chunk)
    body = b"".join(chunks)
    encodings = _values_of(b"content-encoding", request.scope)
    encoding = b",".join(encodings).decode("latin-1")
    if is_plain(encoding):
        return body
    # What it may become; held before it is unpacked.
    hold(most_bytes)
    return await asyncio.to_thread(inflate, body, encoding, most_bytes)


async def read_json(request: Request, most_bytes: int) -> Any:
    """The body as JSON, whatever its Content-Type; NaN and infinities are let through for
    the one who knows the place to refuse them.

    Raises:
        NotJsonError: it is something else, or empty.
        TooLargeError, MalformedError, UnsupportedEncodingError, OverloadedError: as `read_body`.
    """
    return parse_json(await read_body(request, most_bytes))


def parse_json(body: bytes) -> Any:
    """The value that a body holds; raises NotJsonError as `read_json` does."""
    if not body.strip():
        raise NotJsonError("the body is empty, and JSON is due")
    try:
        return from_json(body, allow_inf_nan=True)
    except ValueError as error:
        raise NotJsonError(f"the body is not JSON: {error}") from None
