"""The request under way: what its log lines, its figures and its trace say of it.

Whoever knows a part fills it in; whoever stands around the request (`service.watch`) reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

# What a client that went away before any answer is counted as.
WENT_AWAY = 499


@dataclass(slots=True)
class RequestContext:
    """`mode` is that of an inference route, `version` the one that answers, once it is known;
    `row_ids` are the client's own names of its rows; `computing` is when the answer was asked
    for, begun and computed, `answered` when it began to be sent (`time.perf_counter()`), with
    that status."""

    request_id: str = ""
    trace_id: str = ""
    model: str = ""
    version: str = ""
    mode: str = ""
    row_ids: Sequence[str] | None = None
    computing: tuple[float, float, float] | None = None
    status: int = WENT_AWAY
    answered: float | None = None


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def begin() -> RequestContext:
    """The context of a request that begins in this task."""
    context = RequestContext()
    _current.set(context)
    return context


def end() -> None:
    """The request of this task is over."""
    _current.set(None)


def current() -> RequestContext | None:
    """That of the request under way, if there is one."""
    return _current.get()
