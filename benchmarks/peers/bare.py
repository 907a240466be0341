"""Uvicorn and nothing else: an answer as long as that of `:predict`, always the same.
`python -m benchmarks.peers.bare WEIGHTS PORT`"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

BODY = b'{"model":"regression","version":1,"predictions":[{"value":12.345678901234567}]}'
HEAD = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]

Message = MutableMapping[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],  # noqa: ARG001 (of the protocol)
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answers whatever is asked."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, lifespan="off")
