"""The Monte Carlo engine without HTTP, against the matrix products that it must do.

Figures are CPU time of one thread, so that other programs on the machine disturb them little; each
is measured in turn with the peak of `torch.mm` beside it, and the median ratio counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, repeat
from statistics import median

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.interleaved import processor_seconds
from benchmarks.verdict import Row, print_rows
from models import MLP, MLPConfig
from models.draw import Draw, Estimator
from models.estimators import estimate
from models.plan import predict
from models.sampling import make_plan, sample
from models.table import Target

INPUTS = 13
# Rows, units of a layer, layers, samples.
CASES = ((1, 256, 2, 1000), (1, 512, 3, 1000), (32, 256, 2, 100), (256, 512, 3, 100))
THINNED = ((64, 512, 3, 100), (256, 512, 3, 100))
LOOPS = ((1, 256, 2, 100), (32, 256, 2, 100), (256, 512, 3, 100))
REPEATS = 15


def run(_: argparse.Namespace) -> None:
    """Prints two tables: the engine against its products, and against passes in `train()`."""
    console = Console(width=110)
    print_rows(rows(), "The engine over its matrix products", console)
    loops = Table(
        "rows, units, layers, T", "p", "T passes in train()", "engine", "auto", "eval mode",
        title="Milliseconds of an answer without HTTP: moments and three quantiles",
    )  # fmt: skip
    with _one_thread():
        for case in track(LOOPS, "answers", console=console, transient=True):
            loops.add_row(_named(case), "0.1", *_against_loop(case))
    console.print(loops)


def rows() -> list[Row]:
    """CPU time over that of the products alone at the peak of `torch.mm`, for masks that are kept
    and for those of a seed that is new."""
    cases = [(0.1, case, 1.3) for case in CASES] + [(0.5, case, 0.6) for case in THINNED]
    found = []
    with _one_thread():
        for p, case, target in cases:
            ms, kept, fresh = _against_peak(p, case)
            name = f"engine, p={p:g}, N, H, layers, T = {_named(case)}"
            found.append(Row(name, kept, target, at_most=True, note=f"{ms:.2f} ms"))
            found.append(Row(f"{name}, new seed", fresh, target, at_most=True))
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _named(case: tuple[int, ...]) -> str:
    return ", ".join(map(str, case))


def _against_peak(p: float, case: tuple[int, int, int, int]) -> tuple[float, float, float]:
    """Milliseconds with kept masks, and the ratio with kept and with fresh ones."""
    n_rows, units, layers, n_samples = case
    torch.manual_seed(0)
    plan = make_plan(MLP(MLPConfig(INPUTS, 1, (units,) * layers, p=p)))
    x = torch.randn(n_rows, INPUTS)
    products = 2 * n_rows * INPUTS * units
    products += 2 * n_samples * n_rows * units * ((layers - 1) * units + plan.config.raw_features)

    def draw(seeds: Iterator[int]) -> Callable[[], object]:
        return lambda: sample(plan, x, seed=next(seeds), n_samples=n_samples)

    known, new = draw(repeat(0)), draw(count(1))
    known()
    kept, fresh = [], []
    for _ in range(REPEATS):
        second = products / _peak()
        kept.append(processor_seconds(known) / second)
        fresh.append(processor_seconds(new) / second)
    ms = 1e3 * median(kept) * products / _peak()
    return ms, median(kept), median(fresh)


def _peak() -> float:
    """Floating-point operations per second of a product that fits the cache."""
    a, b, out = torch.randn(1024, 512), torch.randn(512, 512), torch.empty(1024, 512)
    torch.mm(a, b, out=out)
    return 2 * 1024 * 512 * 512 / min(_seconds(lambda: torch.mm(a, b, out=out)) for _ in range(5))


def _against_loop(case: tuple[int, int, int, int]) -> list[str]:
    n_rows, units, layers, n_samples = case
    torch.manual_seed(0)
    network = MLP(MLPConfig(INPUTS, 1, (units,) * layers, p=0.1)).train()
    plan, target, x = make_plan(network), Target("y"), torch.randn(n_rows, INPUTS)

    def loop() -> None:
        with torch.no_grad():
            samples = torch.stack([network(x) for _ in range(n_samples)])
        samples.mean(dim=0), samples.std(dim=0)

    def answer(estimator: Estimator) -> Callable[[], object]:
        draw = Draw(n_samples, 0, estimator, (0.05, 0.5, 0.95))
        return lambda: estimate(plan, target, x, draw)

    ways = (loop, answer("mc"), answer("auto"), lambda: predict(plan, x))
    for way in ways:
        way()
    found = [[_seconds(way) for way in ways] for _ in range(REPEATS)]
    return [f"{1e3 * median(times):.3g}" for times in zip(*found, strict=True)]


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
