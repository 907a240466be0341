"""Requests that cost their sender next to nothing: prepared bytes, a socket, a status."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 if nothing did."""

    status: int
    seconds: float
    body: bytes = b""


def prepare(method: str, path: str, body: Any = None) -> bytes:
    """A whole request, as bytes; a body that is not bytes is written as JSON."""
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


async def ask(port: int, request: bytes) -> Answer:
    """The answer to a prepared request, on a connection of its own."""
    started = time.perf_counter()
    answer = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            answer = await reader.read(-1)
        finally:
            writer.close()
    except OSError:
        pass
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    return Answer(status, time.perf_counter() - started, body)
