"""Around every request: its id, the limit on its body, and the last resort when all else fails."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import context
from service.encodings import inflate, is_plain
from service.errors import NotJsonError, TooLargeError, internal_error

log = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Envelope:
    """ASGI middleware: names each request, and answers when a handler breaks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        request = context.current()
        if request is not None:
            request.request_id = request_id.decode()
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnect:
            log.debug("client of request %s went away", request_id.decode())
        except Exception:
            log.exception("request %s broke", request_id.decode())
            if not started:
                await internal_error(Request(scope))(scope, receive, send_named)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTABLE_ID.fullmatch(value):
            return bytes(value)
    return uuid.uuid4().hex.encode()


async def body_chunks(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body, piece by piece.

    Raises:
        TooLargeError: it has more bytes than that.
    """
    message = f"the body has more than the {most_bytes} bytes that are allowed"
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most_bytes:
        raise TooLargeError(message)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most_bytes:
            raise TooLargeError(message)
        yield chunk


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body, unpacked if it is compressed.

    Raises:
        TooLargeError: it has more bytes than that, packed or unpacked.
        MalformedError, UnsupportedEncodingError: it cannot be unpacked.
    """
    body = b"".join([chunk async for chunk in body_chunks(request, most_bytes)])
    encoding = ",".join(request.headers.getlist("content-encoding"))
    if is_plain(encoding):
        return body
    return await asyncio.to_thread(inflate, body, encoding, most_bytes)


async def read_json(request: Request, most_bytes: int) -> Any:
    """The body as JSON, whatever its Content-Type; NaN and infinities are let through for
    the one who knows the place to refuse them.

    Raises:
        NotJsonError: it is something else, or empty.
        TooLargeError, MalformedError, UnsupportedEncodingError: as `read_body`.
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
