"""Small requests that come at the same time are computed in one pass.

Whatever has come while the event loop was busy waits in sockets; read in one turn of the loop,
requests for the same version, seed and number of samples share masks, products and all that
does not depend on how many rows there are. Alone, a request waits for nobody. A row's answer is
the same bits in any company (`models.plan`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from models.errors import NonFiniteError

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass
class _Batch(Generic[Q, A]):
    compute: Callable[[Sequence[Q]], Sequence[A]]
    questions: list[Q] = field(default_factory=list)
    answers: list[asyncio.Future[A]] = field(default_factory=list)
    work: int = 0


class Together:
    """Gathers questions of one turn of the event loop; those of one key make a batch, of that
    much work at most. Batches are computed one in a turn."""

    def __init__(self, most_work: int) -> None:
        self._most_work = most_work
        self._open: dict[Hashable, _Batch[Any, Any]] = {}
        self._waiting: deque[tuple[Hashable, _Batch[Any, Any]]] = deque()

    async def ask(
        self,
        key: Hashable,
        question: Q,
        work: int,
        compute: Callable[[Sequence[Q]], Sequence[A]],
    ) -> A:
        """The answer to that question, of those that `compute` gives to all of its key.

        Raises:
            Exception: what `compute` raises for this question alone.
        """
        loop = asyncio.get_running_loop()
        batch = self._open.get(key)
        if batch is None or batch.work + work > self._most_work:
            batch = self._open[key] = _Batch(compute)
            if not self._waiting:
                loop.call_soon(self._answer_next, loop)
            self._waiting.append((key, batch))
        answer: asyncio.Future[A] = loop.create_future()
        batch.questions.append(question)
        batch.answers.append(answer)
        batch.work += work
        return await answer

    def _answer_next(self, loop: asyncio.AbstractEventLoop) -> None:
        key, batch = self._waiting[0]
        if self._open.get(key) is batch:
            del self._open[key]
        try:
            self._answer(batch)
        finally:
            self._waiting.popleft()
            if self._waiting:
                # In another turn, so that between two batches the loop sees to all else.
                loop.call_soon(self._answer_next, loop)

    @staticmethod
    def _answer(batch: _Batch[Q, A]) -> None:
        # Whose client has gone away meanwhile asks no more.
        asked = [
            (question, answer)
            for question, answer in zip(batch.questions, batch.answers, strict=True)
            if not answer.done()
        ]
        try:
            _settle(asked, batch.compute)
        except NonFiniteError:
            # Says which rows, but of all questions together.
            for one in asked:
                _settle_alone(one, batch.compute)
        except Exception as error:  # noqa: BLE001 - it goes to those who asked
            for _, answer in asked:
                answer.set_exception(error)


def _settle(
    asked: Sequence[tuple[Q, asyncio.Future[A]]], compute: Callable[[Sequence[Q]], Sequence[A]]
) -> None:
    answers = compute([question for question, _ in asked]) if asked else ()
    for (_, answer), computed in zip(asked, answers, strict=True):
        answer.set_result(computed)


def _settle_alone(
    one: tuple[Q, asyncio.Future[A]], compute: Callable[[Sequence[Q]], Sequence[A]]
) -> None:
    try:
        _settle([one], compute)
    except Exception as error:  # noqa: BLE001 - it goes to the one who asked
        one[1].set_exception(error)
