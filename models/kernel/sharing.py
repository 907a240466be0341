"""Compiled work cut into pieces that can be cancelled, among threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import torch

from models.cancellation import stop_if_cancelled

# Multiply-adds of one call, about 4 ms: between two calls the computation can be cancelled. Less
# than the other is not worth a second thread.
CALL_PRODUCTS, LEAST_SHARED_PRODUCTS = 2**27, 2**23


def share(n_items: int, products_per_item: int, work: Callable[[slice], None]) -> None:
    """That work for all items: in pieces that end soon, among as many threads as torch would take
    for it."""
    if n_items * products_per_item < LEAST_SHARED_PRODUCTS:
        work(slice(0, n_items))
        return
    threads = torch.get_num_threads()
    step = max(1, min(CALL_PRODUCTS // max(1, products_per_item), math.ceil(n_items / threads)))
    if step >= n_items:
        work(slice(0, n_items))
        return
    pieces = [slice(begin, min(begin + step, n_items)) for begin in range(0, n_items, step)]
    for at in range(0, len(pieces), threads):
        stop_if_cancelled()
        _work_on(pieces[at : at + threads], work)


def _work_on(pieces: Sequence[slice], work: Callable[[slice], None]) -> None:
    """The first piece in this thread, and so each other that no thread has begun by then."""
    others = [(piece, _pool().submit(work, piece)) for piece in pieces[1:]]
    try:
        work(pieces[0])
        for piece, other in others:
            if other.cancel():
                work(piece)
    finally:
        # None goes on in memory that has been given back.
        begun = [other for _, other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "kernel")
