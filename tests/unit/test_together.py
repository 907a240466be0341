"""Questions of one turn of the event loop, gathered by key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from models.errors import NonFiniteError
from service.together import Together


def double(seen: list[list[int]]):
    def compute(questions: Sequence[int]) -> list[int]:
        seen.append(list(questions))
        return [2 * question for question in questions]

    return compute


def run(
    *questions: tuple[str, int, int], most_work: int = 100
) -> tuple[list[int], list[list[int]]]:
    """The answers to (key, question, work), all asked in one turn, and the batches there were."""
    seen: list[list[int]] = []

    async def main() -> list[int]:
        together = Together(most_work)
        asked = (
            together.ask(key, question, work, double(seen)) for key, question, work in questions
        )
        return await asyncio.gather(*asked)

    return asyncio.run(main()), seen


def test_questions_of_one_key_are_computed_together() -> None:
    answers, batches = run(("a", 1, 1), ("b", 2, 1), ("a", 3, 1))
    assert answers == [2, 4, 6]
    assert batches == [[1, 3], [2]]


def test_a_batch_has_no_more_work_than_allowed() -> None:
    answers, batches = run(*(("a", i, 40) for i in range(5)))
    assert answers == [0, 2, 4, 6, 8]
    assert batches == [[0, 1], [2, 3], [4]]


def test_the_next_turn_is_another_batch() -> None:
    seen: list[list[int]] = []

    async def main() -> None:
        together = Together(100)
        for question in (1, 2):
            assert await together.ask("a", question, 1, double(seen)) == 2 * question

    asyncio.run(main())
    assert seen == [[1], [2]]


def test_who_has_gone_away_is_left_out() -> None:
    seen: list[list[int]] = []

    async def main() -> None:
        together = Together(100)
        tasks = [asyncio.create_task(together.ask("a", i, 1, double(seen))) for i in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await tasks[0] == 0
        assert await tasks[2] == 4
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]

    asyncio.run(main())
    assert seen == [[0, 2]]


def test_a_row_that_is_not_finite_spoils_no_other() -> None:
    def compute(questions: Sequence[int]) -> list[int]:
        wrong = [row for row, question in enumerate(questions) if question < 0]
        if wrong:
            raise NonFiniteError(wrong)
        return list(questions)

    async def main() -> list[int | BaseException]:
        together = Together(100)
        asked = (together.ask("a", question, 1, compute) for question in (5, -1, 6))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert (first, third) == (5, 6)
    assert isinstance(second, NonFiniteError)
    assert second.rows == (0,)


def test_between_two_batches_the_loop_sees_to_all_else() -> None:
    order: list[object] = []

    def compute(questions: Sequence[str]) -> list[str]:
        order.extend(questions)
        asyncio.get_running_loop().call_soon(order.append, "else")
        return list(questions)

    async def main() -> None:
        together = Together(100)
        await asyncio.gather(*(together.ask(key, key, 1, compute) for key in ("a", "b")))

    asyncio.run(main())
    assert order[:3] == ["a", "else", "b"]
