"""A computation that nobody waits for any more ends at its next block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class ComputationCancelledError(Exception):
    """The computation was given up before its end."""


_is_cancelled: ContextVar[Callable[[], bool]] = ContextVar("_is_cancelled")


@contextmanager
def cancellable(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """What this thread computes in the `with` block ends once that says so."""
    token = _is_cancelled.set(is_cancelled)
    try:
        yield
    finally:
        _is_cancelled.reset(token)


def stop_if_cancelled() -> None:
    """Between two blocks of a long computation.

    Raises:
        ComputationCancelledError: it is to end here.
    """
    is_cancelled = _is_cancelled.get(None)
    if is_cancelled is not None and is_cancelled():
        raise ComputationCancelledError
