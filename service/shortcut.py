"""The short way of hot requests: to what answers them, past routers, dependencies and validators
that they do not need.

The same functions stand as routes, for `/docs` and for every request that is not quite of this
form; errors are answered by the application's own handlers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.inference import Address, Inference
from service.routes.wiring import Answer
from service.settings import Settings

# What makes a response of an error.
Handler = Callable[[Request, Exception], Any]

# Paths of which it is remembered where they lead: those of hot requests are few.
MOST_KNOWN, LONGEST_KNOWN = 1024, 256

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

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        inference: Inference,
        handlers: Mapping[Any, Handler],
        answers: Mapping[str, Answer],
    ) -> None:
        self._app = app
        self._settings = settings
        self._inference = inference
        self._handlers = handlers
        self._remembered = functools.lru_cache(MOST_KNOWN)(self._find)
        # By what their addresses end with, of which there are few.
        self._ways: dict[str, list[_Way]] = {}
        for path, answer in answers.items():
            pattern = re.compile(_PARAMETER.sub(_PLAIN, re.escape(path)))
            self._ways.setdefault(_ending(path), []).append(_Way(path, pattern, answer))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            find = self._remembered if len(path) <= LONGEST_KNOWN else self._find
            found = find(path)
        if found is None:
            await self._app(scope, receive, send)
            return
        way, address = found
        scope["route"] = way
        request = Request(scope, receive, send)
        try:
            response = await way.answer(request, self._settings, self._inference, address)
        except Exception as error:
            respond = self._handler(error)
            if respond is None:
                raise
            response = respond(request, error)
        await response(scope, receive, send)

    def _find(self, path: str) -> tuple[_Way, Address] | None:
        for way in self._ways.get(_ending(path), ()):
            found = way.pattern.fullmatch(path)
            if found is not None:
                return way, Address(**found.groupdict())
        return None

    def _handler(self, error: Exception) -> Handler | None:
        """The application's; none of what nobody expected, which is for the last resort."""
        kinds = (kind for kind in type(error).__mro__ if kind is not Exception)
        return next((self._handlers[kind] for kind in kinds if kind in self._handlers), None)


def _ending(path: str) -> str:
    return path[max(path.rfind("/"), path.rfind(":")) + 1 :]
