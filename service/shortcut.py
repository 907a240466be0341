"""The short way of hot requests: to what answers them, past routers, dependencies and validators
that they do not need.

The same functions stand as routes, for `/docs` and for every request that is not quite of this
form; errors are answered by the application's own handlers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.inference import Address
from service.routes.wiring import Answer

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")
# What a name in a path cannot hold; one that does goes the long way.
_PLAIN = r"(?P<\1>[^/:]+)"


@dataclass(frozen=True)
class _Way:
    """As a router would leave it in the request's scope."""

    path: str
    pattern: re.Pattern[str]
    answer: Answer


class Shortcut:
    """ASGI middleware: POST requests at these paths, spelled as routers do, are answered here."""

    def __init__(self, app: ASGIApp, answers: Mapping[str, Answer]) -> None:
        self._app = app
        # By what their addresses end with, of which there are few.
        self._ways: dict[str, list[_Way]] = {}
        for path, answer in answers.items():
            pattern = re.compile(_PARAMETER.sub(_PLAIN, re.escape(path)))
            self._ways.setdefault(_ending(path), []).append(_Way(path, pattern, answer))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            for way in self._ways.get(_ending(path), ()):
                found = way.pattern.fullmatch(path)
                if found is not None:
                    scope["route"] = way
                    request = Request(scope, receive, send)
                    response = await _answer(request, way.answer, found.groupdict())
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _ending(path: str) -> str:
    return path[max(path.rfind("/"), path.rfind(":")) + 1 :]


async def _answer(request: Request, answer: Answer, address: Mapping[str, Any]) -> Response:
    app: FastAPI = request.app
    try:
        return await answer(request, app.state.settings, app.state.inference, Address(**address))
    except Exception as error:
        handlers = app.exception_handlers
        known = next((kind for kind in type(error).__mro__ if kind in handlers), None)
        if known is None:
            raise
        response: Response = handlers[known](request, error)  # type: ignore[assignment]
        return response
