"""At the door: who asks, whether they may, and whether there is room for them.

Everything here is decided from the request's head, before a byte of the body is read.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from service.access import NEVER_REFUSED, PREDICT, Scope, is_enough, need_of
from service.caller import Caller, Load
from service.errors import ForbiddenError, OverloadedError, ServiceError, UnauthorizedError, respond
from service.keys import KeyRing, KnownKey
from service.settings import Settings

# Host headers of which it is remembered whether they name this machine.
MOST_KNOWN = 256
# By name in small letters, the first where there are several.
Headers = Mapping[bytes, bytes]
# Of a name with its port.
LONGEST_NAME = 260
SMALL_BODY_BYTES = 16 * 2**10


class Gate:
    """ASGI middleware: lets in, or answers 401, 403, 429 or 503."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        ring: Callable[[], KeyRing],
        is_full: Callable[[], bool],
    ) -> None:
        self._app = app
        self._is_full = is_full
        self._settings = settings
        self._needs_keys = settings.needs_keys
        self._ring = ring
        self._load = Load(settings.max_requests, settings.max_held_bytes)
        self._take = _rate_limiter(settings.rate_limit)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_counted = not scope["path"].startswith(NEVER_REFUSED)
        try:
            self._check(scope, is_counted)
            if is_counted:
                self._load.begin_request()
        except ServiceError as error:
            await respond(Request(scope), error)(scope, receive, send)
            return
        caller = Caller(receive, self._load, self._settings.receive_seconds)
        try:
            with caller:
                await self._app(scope, caller.receive_in_time, send)
        finally:
            if is_counted:
                self._load.end_request()

    def _check(self, scope: AsgiScope, is_counted: bool) -> None:
        need = need_of(scope["method"], scope["path"])
        is_inference = need is PREDICT
        headers = _first_of_each(scope)
        if self._needs_keys:
            key = self._ring().find(_shown_key(headers)) if need else None
        else:
            self._check_browser(scope["method"], headers)
            key, need = None, None
        if is_counted and self._take is not None:
            self._take(_counted_as(scope, key))
        if need is not None:
            _check_scope(scope, key, need)
        if is_inference and self._is_full() and _may_be_large(headers):
            # Small ones may yet be computed at once; to read a large one would take longer.
            raise OverloadedError("too many requests wait for computation already", 1)

    def _check_browser(self, method: str, headers: Headers) -> None:
        """Without keys, a page that somebody here looks at could ask in their name."""
        host = _text(headers, b"host")
        is_own = len(host) <= LONGEST_NAME and _is_own_name(host)
        if self._settings.keys == "auto" and not is_own:
            # A foreign name that was made to lead here (DNS rebinding).
            raise ForbiddenError(
                f"without keys requests to {host[:100]!r} are not answered, only to names and "
                "addresses of this machine: see DROPCAST_KEYS"
            )
        if b"origin" not in headers or method in ("GET", "HEAD", "OPTIONS"):
            return
        origin = _text(headers, b"origin")
        allowed = self._settings.allowed_origins
        if origin.partition("://")[2] != host and not {"*", origin} & set(allowed):
            raise ForbiddenError(
                f"pages of {origin[:100]!r} may not ask: see DROPCAST_CORS_ORIGINS"
            )


def _first_of_each(scope: AsgiScope) -> Headers:
    return dict(reversed(scope["headers"]))


def _text(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _shown_key(headers: Headers) -> str:
    """The key that the request shows, or nothing."""
    scheme, _, credentials = _text(headers, b"authorization").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return _text(headers, b"x-api-key")


@functools.lru_cache(MOST_KNOWN)
def _is_own_name(host: str) -> bool:
    """Whether a Host header names this machine: an address, or a name that no public name
    server knows."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name or name.endswith(".localhost")
    return True


def _check_scope(scope: AsgiScope, key: KnownKey | None, need: frozenset[Scope]) -> None:
    if key is None:
        raise UnauthorizedError
    scope.setdefault("state", {}).update(key=key.id, scopes=key.scopes)
    if not is_enough(key.scopes, need):
        wanted, has = " or ".join(sorted(need)), ", ".join(sorted(key.scopes))
        raise ForbiddenError(f"this needs a key with the scope {wanted}; this key has {has}")


def _may_be_large(headers: Headers) -> bool:
    declared = headers.get(b"content-length", b"")
    return not declared.isdigit() or int(declared) > SMALL_BODY_BYTES


def _rate_limiter(limit: str | None) -> Callable[[str], None] | None:
    if limit is None:
        return None
    # Slow to import, and only for those who want it.
    from service.rates import Rates  # noqa: PLC0415

    return Rates(limit).take


def _counted_as(scope: AsgiScope, key: KnownKey | None) -> str:
    """The key, or the client's address: an IPv6 customer has a network of /64, not one address."""
    if key is not None:
        return key.id
    address: str = (scope.get("client") or ("",))[0]
    if ":" not in address or address.startswith("::ffff:"):
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
