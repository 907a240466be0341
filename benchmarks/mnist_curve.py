"""Test errors of a network with dropout on MNIST: weight scaling, and averages of thinned networks.

The curve is figure 11 of Srivastava et al. 2014: the error of the average of k thinned networks,
over several disjoint groups of k, beside the error of weight scaling.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from benchmarks import mnist_figures
from benchmarks.journal import Journal
from models.sampling import Plan, predict, sample
from models.training_run import Split

# Groups of so many samples, out of so many blocks of as many samples as the largest group.
GROUP_SIZES = (1, 2, 5, 10, 20, 50, 100, 200)
BLOCKS = 3


def weight_scaling_error(plan: Plan, test: Split) -> float:
    """Test error (%) in eval mode."""
    return _error(predict(plan, test.x), test.y)


def draw_probabilities(plan: Plan, x: Tensor, first: int, n_samples: int) -> Tensor:
    """Class probabilities (T, N, C) of samples first … first + T - 1."""
    return torch.softmax(sample(plan, x, seed=0, first=first, n_samples=n_samples), dim=-1)


def group_errors(probabilities: Tensor, labels: Tensor, size: int) -> list[float]:
    """Error (%) of the mean of each group of `size` consecutive samples out of (T, N, C).

    The groups are disjoint; samples beyond the last whole group are left out.
    """
    n_groups = len(probabilities) // size
    groups = probabilities[: n_groups * size].reshape(n_groups, size, *probabilities.shape[1:])
    means = groups.mean(dim=1)
    return [_error(mean, labels) for mean in means]


def find_crossing(means: dict[int, float], reference: float) -> int | None:
    """The least group size from which on the mean error stays at or below the reference."""
    crossing = None
    for size in sorted(means, reverse=True):
        if means[size] > reference:
            break
        crossing = size
    return crossing


def trace(run: str, plan: Plan, test: Split, journal: Journal, progress: Progress) -> None:
    """Errors of the groups of each block into the journal; no sample is drawn twice."""
    done = len(journal.read(run, "curve"))
    task = progress.add_task("curve", total=BLOCKS, completed=done)
    largest = max(GROUP_SIZES)
    for block in range(done, BLOCKS):
        drawn = draw_probabilities(plan, test.x, block * largest, largest)
        errors = {size: group_errors(drawn, test.y, size) for size in GROUP_SIZES}
        journal.write(run, "curve", errors=errors)
        progress.advance(task)


def report(run: str, reference: float, journal: Journal, console: Console, path: Path) -> None:
    """Prints mean and standard deviation over the groups of each size, and where the mean
    crosses the reference; draws them into a file."""
    errors: dict[int, list[float]] = {size: [] for size in GROUP_SIZES}
    for block in journal.read(run, "curve"):
        for size, values in block["errors"].items():
            errors[int(size)] += values
    means = {size: float(np.mean(values)) for size, values in errors.items()}
    spreads = {size: float(np.std(values, ddof=1)) for size, values in errors.items()}
    table = Table("samples averaged", "groups", "mean error in %", "standard deviation")
    for size, values in errors.items():
        row = size, len(values), f"{means[size]:.3f}", f"{spreads[size]:.3f}"
        table.add_row(*map(str, row))
    console.print(table)
    console.print(f"The mean error is that of weight scaling ({reference:.2f} %) or less")
    within = {size: means[size] - spreads[size] for size in means}
    for name, errors_met in (("itself", means), ("less a standard deviation", within)):
        crossing = find_crossing(errors_met, reference)
        where = "at no size" if crossing is None else f"from {crossing} samples on"
        console.print(f"- {name}: {where}")
    mnist_figures.draw_curve(errors, reference, path)


def _error(scores: Tensor, labels: Tensor) -> float:
    return 100.0 * (scores.argmax(dim=-1) != labels).double().mean().item()
