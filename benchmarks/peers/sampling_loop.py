"""Measures ways to sample a network, each time a line on standard input asks for one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.interleaved import processor_seconds
from benchmarks.peers import network

# From a network, a mode and T to a function of rows (N, D) that gives samples (T, N) in any order.
Make = Callable[[nn.Module, str, int], Callable[[Tensor], Tensor]]


def answer(make: Make) -> None:
    """For each line of JSON the processor seconds of mean and standard deviation of T samples,
    on one thread; until the input ends."""
    torch.set_num_threads(1)
    ways: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        if line not in ways:
            ways[line] = _way(make, **json.loads(line))
            ways[line]()
        print(processor_seconds(ways[line]), flush=True)


def _way(make: Make, weights: str, rows: int, samples: int, mode: str) -> Callable[[], object]:
    x = torch.randn(rows, network.FEATURES)
    sample = make(network.load(weights), mode, samples)

    def way() -> tuple[Tensor, Tensor]:
        drawn = sample(x)
        assert drawn.shape == (samples, rows)
        return drawn.mean(dim=0), drawn.std(dim=0)

    with torch.no_grad():
        # Samples that do not differ would be a benchmark of something else.
        assert bool((way()[1] > 0).all())
    return torch.no_grad()(way)
