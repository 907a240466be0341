"""Domain error -> status, in one table; and the one body that every error has (RFC 9457)."""

from __future__ import annotations

import errno
import http
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from models.errors import (
    ArtifactError,
    CoverageError,
    DataError,
    DropcastError,
    EncodeError,
    EstimatorError,
    NonFiniteError,
    NotStochasticError,
)
from service.access import methods_at
from service.wording import describe

log = logging.getLogger(__name__)

Errors = Sequence[Mapping[str, Any]]


class ServiceError(Exception):
    """An error that is an answer: its text is shown to the client.

    `errors` says where in the request, `headers` go with the response.
    """

    def __init__(
        self, detail: str, *, errors: Errors = (), headers: Mapping[str, str] | None = None
    ) -> None:
        self.errors = errors
        self.headers = headers or {}
        super().__init__(detail)


class NotJsonError(ServiceError):
    """The body is not JSON."""


class UnauthorizedError(ServiceError):
    """A key is due. The text is the same for every key that is not good, and for none."""

    def __init__(self) -> None:
        super().__init__(
            "a good key is due, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`",
            headers={"WWW-Authenticate": 'Bearer realm="dropcast"'},
        )


class ForbiddenError(ServiceError):
    """The key is good, but not for this."""


class MalformedError(ServiceError):
    """The body is not made as its headers say."""


class UnsupportedEncodingError(ServiceError):
    """The body is compressed in a way that is not read here."""

    def __init__(self, encoding: str) -> None:
        detail = f"the body's Content-Encoding {encoding[:64]!r} is not gzip, deflate or identity"
        super().__init__(detail, headers={"Accept-Encoding": "gzip, deflate"})


class NotFoundError(ServiceError):
    """What the request names does not exist."""


class ConflictError(ServiceError):
    """The state of the thing forbids what was asked."""


class TooLargeError(ServiceError):
    """The body has more bytes than a limit allows."""


class TooSlowError(ServiceError):
    """The client took too long to send its request."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class InvalidError(ServiceError):
    """Well-formed, but wrong."""


class UnavailableError(ServiceError):
    """The same request may succeed later."""

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class TooManyRequestsError(UnavailableError):
    """The client has asked as often as it may."""


class TimeLimitError(UnavailableError):
    """The answer took longer than it may."""


class OverloadedError(UnavailableError):
    """A queue is full."""


class StorageError(UnavailableError):
    """What keeps datasets and artifacts is full, cannot be written, or does not answer."""


class NotReadyError(UnavailableError):
    """The service is starting or draining."""


@dataclass(frozen=True)
class _Kind:
    status: int
    type: str
    title: str


# The first class that matches an error decides.
KINDS: Mapping[type[Exception], _Kind] = {
    NotJsonError: _Kind(400, "not-json", "The body is not JSON"),
    UnauthorizedError: _Kind(401, "unauthorized", "A key is due"),
    ForbiddenError: _Kind(403, "forbidden", "Not with this key, or not from there"),
    MalformedError: _Kind(400, "malformed", "The body cannot be read"),
    UnsupportedEncodingError: _Kind(415, "unsupported-encoding", "The body cannot be unpacked"),
    NotFoundError: _Kind(404, "not-found", "No such thing"),
    TooSlowError: _Kind(408, "too-slow", "The request came too slowly"),
    ConflictError: _Kind(409, "conflict", "Not possible in this state"),
    TooLargeError: _Kind(413, "too-large", "The body is too large"),
    InvalidError: _Kind(422, "invalid", "The request is not valid"),
    TooManyRequestsError: _Kind(429, "too-many-requests", "Too many requests"),
    TimeLimitError: _Kind(503, "time-limit", "The answer took too long"),
    OverloadedError: _Kind(503, "overloaded", "Too much to do at the moment"),
    StorageError: _Kind(503, "storage", "The store cannot be used"),
    NotReadyError: _Kind(503, "not-ready", "Not ready to serve"),
    EncodeError: _Kind(422, "invalid-instance", "An instance does not fit the model"),
    NonFiniteError: _Kind(422, "not-finite", "The answer would not be finite"),
    EstimatorError: _Kind(422, "invalid", "The request is not valid"),
    NotStochasticError: _Kind(422, "no-dropout", "The model has no dropout"),
    CoverageError: _Kind(422, "coverage", "More coverage than calibration can vouch for"),
    DataError: _Kind(422, "invalid-data", "The data cannot be used"),
    ArtifactError: _Kind(500, "artifact", "A stored model version cannot be loaded"),
}


def problem(
    request: Request,
    kind: _Kind,
    detail: str,
    *,
    errors: Errors = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one error."""
    body: dict[str, Any] = {
        "type": f"urn:dropcast:problem:{kind.type}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": request.scope["path"][:1000],
        "request_id": request.scope.get("state", {}).get("request_id", ""),
    }
    if errors:
        body["errors"] = list(errors)
    media_type = "application/problem+json"
    if _is_open_inference(request):
        # Where that protocol's clients look for the text.
        body["error"] = detail
        media_type = "application/json"
    return Response(
        orjson.dumps(body), kind.status, headers=dict(headers or {}), media_type=media_type
    )


def _is_open_inference(request: Request) -> bool:
    # Not `request.url`: a Host header may make an address of it that cannot be taken apart.
    path: str = request.scope["path"]
    return path == "/v2" or path.startswith("/v2/")


def internal_error(request: Request) -> Response:
    """The response when something broke inside: nothing of the inside, only the request id."""
    kind = _Kind(500, "internal", "Something broke inside the service")
    return problem(request, kind, "The request id leads to the reason in the service's log.")


def install(app: FastAPI) -> None:
    """Makes every error of every route a problem."""
    app.add_exception_handler(ServiceError, respond)
    app.add_exception_handler(DropcastError, respond)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(OSError, _on_os_error)
    # Beyond that it is raised again, for `service.envelope` to log.
    app.add_exception_handler(Exception, lambda request, _: internal_error(request))
    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, _on_database_error)


def respond(request: Request, error: Exception) -> Response:
    """The response for an error of the table."""
    kind = next(kind for known, kind in KINDS.items() if isinstance(error, known))
    errors: Errors = getattr(error, "errors", ())
    if isinstance(error, EncodeError):
        errors = [
            {"loc": _place(request, p.row, p.feature), "msg": p.message} for p in error.problems
        ]
    elif isinstance(error, NonFiniteError):
        errors = [{"loc": _place(request, row), "msg": str(error)} for row in error.rows[:100]]
    elif isinstance(error, DataError) and error.param:
        errors = [{"loc": [error.param], "msg": str(error)}]
    elif isinstance(error, CoverageError):
        errors = [{"loc": ["coverage"], "msg": str(error)}]
    elif isinstance(error, ArtifactError):
        # Its text holds paths of this machine.
        log.error("a stored version cannot be loaded", exc_info=error)
        return problem(request, kind, "The stored version is damaged; the service's log says how.")
    return problem(request, kind, str(error), errors=errors, headers=getattr(error, "headers", {}))


def _place(request: Request, row: int, feature: str | int | None = None) -> list[str | int]:
    """Where a row, or one value of it, stands in the body: one that was sent as `instance` has
    no number, and of tensors each is a feature."""
    value = [] if feature is None else [feature]
    if _is_open_inference(request):
        return ["inputs", *value, row]
    is_alone = getattr(request.state, "has_one_instance", False)
    return [*(["instance"] if is_alone else ["instances", row]), *value]


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(request, invalid(error.errors()))


def invalid(faults: Sequence[Any], kind: type[BaseModel] | None = None) -> InvalidError:
    """The error that says what pydantic found in a request, read as that type."""
    errors = describe(faults, kind)
    place = ".".join(str(part) for part in errors[0]["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidError(f"{place or 'the body'}: {errors[0]['msg']}{more}", errors=errors)


def _on_database_error(request: Request, error: Exception) -> Response:
    log.error("the database does not answer", exc_info=error)
    return respond(request, OverloadedError("the database does not answer", 2))


# What the machine refuses to keep, and why; other errors of its are our own faults.
_REFUSALS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the store of datasets and artifacts is read-only",
    errno.EACCES: "the store of datasets and artifacts cannot be written",
    errno.EPERM: "the store of datasets and artifacts cannot be written",
    errno.EIO: "the disk fails",
}
STORE_RETRY_SECONDS = 30


def _on_os_error(request: Request, error: Exception) -> Response:
    reason = _REFUSALS.get(getattr(error, "errno", None) or 0)
    if reason is None:
        log.error("a request broke", exc_info=error)
        return internal_error(request)
    log.error("the machine refuses to store: %s", error)
    return respond(request, StorageError(reason, STORE_RETRY_SECONDS))


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase
    kind = _Kind(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    detail = {
        404: f"there is nothing at {request.scope['path']}",
        405: f"{request.method} is not possible at {request.scope['path']}",
    }.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The routers know of one of them alone.
        headers["Allow"] = ", ".join(methods_at(request.scope["path"])) or headers.get("Allow", "")
    return problem(request, kind, detail, headers=headers)
