"""The client of a request: whether it still waits, how it sends its body, what that may weigh."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from contextvars import ContextVar, Token
from functools import partial
from types import coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from models.cancellation import cancellable
from service.errors import OverloadedError, TimeLimitError, TooSlowError

T = TypeVar("T")

# A body may take as long as it likes if so much of it comes in each second.
LEAST_BYTES_PER_SECOND = 1_000


class Load:
    """What is under way in this process: requests, and bytes of bodies that it holds."""

    def __init__(self, most_requests: int, most_bytes: int) -> None:
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self._requests = 0
        self._bytes = 0

    def begin_request(self) -> None:
        """One request more, until it ends.

        Raises:
            OverloadedError: there are too many.
        """
        if self._requests >= self._most_requests:
            raise OverloadedError(f"{self._requests} requests are under way already", 1)
        self._requests += 1

    def end_request(self) -> None:
        self._requests -= 1

    def hold(self, n_bytes: int) -> None:
        """So many bytes more, until they are released.

        Raises:
            OverloadedError: they are too many together with those of other requests.
        """
        if self._bytes + n_bytes > self._most_bytes:
            message = f"bodies of {self._bytes} bytes are under way, {n_bytes} more are too many"
            raise OverloadedError(message, 1)
        self._bytes += n_bytes

    def release(self, n_bytes: int) -> None:
        self._bytes -= n_bytes


class Caller:
    """One request's client. `receive` is the server's; ours is `receive_in_time`."""

    def __init__(self, receive: Receive, load: Load, seconds: float) -> None:
        self._receive = receive
        self._load = load
        self._held = 0
        self._received = 0
        self._ends = time.monotonic() + seconds
        self._has_all = False
        self._leaving: asyncio.Task[None] | None = None
        self._token: Token[Caller | None] | None = None

    async def receive_in_time(self) -> Message:
        """The next message, as ASGI has it.

        Raises:
            TooSlowError: the body does not come as fast as it has to.
        """
        if self._has_all:
            await asyncio.shield(self.leaving())
            return {"type": "http.disconnect"}
        ends = self._ends + self._received / LEAST_BYTES_PER_SECOND
        try:
            message = await _until(ends, self._receive())
        except TimeoutError:
            raise TooSlowError(f"only {self._received} bytes of the body came in time") from None
        self._received += len(message.get("body", b""))
        self._has_all = not message.get("more_body", False)
        return message

    def hold(self, n_bytes: int) -> None:
        """Counts bytes of the body that stay in memory until the request ends.

        Raises:
            OverloadedError: there is no room for them.
        """
        self._load.hold(n_bytes)
        self._held += n_bytes

    def leaving(self) -> asyncio.Task[None]:
        """Ends once the client has gone away; of the request, which cancels it at its end."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._wait_until_gone())
        return self._leaving

    def __enter__(self) -> None:
        """Makes it the caller of what is done in the `with` block."""
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        """At the end of the request, however it ended."""
        if self._token is not None:
            _current.reset(self._token)
        self._load.release(self._held)
        if self._leaving is not None:
            self._leaving.cancel()

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


_current: ContextVar[Caller | None] = ContextVar("_current", default=None)


async def _until(ends: float, awaitable: Awaitable[T]) -> T:
    """What it gives by then (`time.monotonic()`); what is there already costs no timer.

    Raises:
        TimeoutError: the time is up.
    """
    steps = awaitable.__await__()
    try:
        awaited = next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    async with asyncio.timeout(ends - time.monotonic()):
        return await _go_on(awaited, steps)


@coroutine
def _go_on(awaited: Any, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """The rest of what has begun to wait for something."""
    while True:
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - theirs, whatever it is
            go_on = partial(steps.throw, error)
        else:
            go_on = partial(next, steps)
        try:
            awaited = go_on()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def hold(n_bytes: int) -> None:
    """`Caller.hold` of whoever is served."""
    caller = _current.get()
    if caller is not None:
        caller.hold(n_bytes)


async def compute(threads: Executor, function: Callable[[], T], seconds: float) -> T:
    """What the function gives, computed in one of the threads while somebody waits for it.

    If the client goes away or the time is up the function does not begin, or ends at its next
    `models.cancellation.stop_if_cancelled`.

    Raises:
        TimeLimitError: the time, of waiting for a thread and of computing, is up.
        ClientDisconnect: the client has gone away.
    """
    given_up = threading.Event()

    def work() -> T:
        with cancellable(given_up.is_set):
            return function()

    caller = _current.get()
    result = asyncio.get_running_loop().run_in_executor(threads, work)
    waited: set[asyncio.Future[Any]] = {result}
    if caller is not None:
        waited.add(caller.leaving())
    try:
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when="FIRST_COMPLETED")
        if result in done:
            return result.result()
        if done:
            raise ClientDisconnect
        raise TimeLimitError(f"no answer within {seconds:g} seconds: ask for less at a time", 1)
    finally:
        given_up.set()
        result.cancel()
