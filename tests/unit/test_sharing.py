"""Compiled work among threads: every item once, and none is left at work when it ends."""

import threading

import pytest
import torch

from models.kernel.sharing import LEAST_SHARED_PRODUCTS, _pool, share


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_item_is_worked_on_once() -> None:
    for n_items in (1, 2, 3, 1000, 1001):
        done: list[int] = []
        share(n_items, LEAST_SHARED_PRODUCTS, lambda piece, d=done: d.extend(range(10_000)[piece]))
        assert sorted(done) == list(range(n_items))


def test_what_no_other_thread_takes_is_done_here() -> None:
    hold = threading.Event()
    held = [_pool().submit(hold.wait) for _ in range(_pool()._max_workers)]
    workers: list[int] = []
    share(2, LEAST_SHARED_PRODUCTS, lambda _: workers.append(threading.get_ident()))
    hold.set()
    assert all(one.result(10) for one in held)
    assert workers == [threading.get_ident()] * 2


def test_a_failure_is_raised_once_no_thread_is_at_work_any_more() -> None:
    for failing in (0, 1):
        has_begun, ended = threading.Event(), []

        def work(piece: slice, failing: int = failing, begun=has_begun, ended=ended) -> None:
            if piece.start == 1:
                begun.set()
            assert begun.wait(10)
            if piece.start == failing:
                raise MemoryError
            ended.append(piece.start)

        with pytest.raises(MemoryError):
            share(2, LEAST_SHARED_PRODUCTS, work)
        assert ended == [1 - failing]
