"""Estimators: from a network and a seed to moments of the predictive distribution.

`mc` is the textbook: independent masks, equal weights. `auto` stands for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.errors import NonFiniteError, NotStochasticError
from models.sampling import Plan, row_blocks, sample
from models.table import Target, softmax
from models.uncertainty import Summary, join, summarise, to_gaussians

Array = np.ndarray

ESTIMATORS = ("auto", "mc")

# Raw outputs held at a time: 8 MB as drawn, a few times that while they are summarised.
BLOCK_OUTPUTS = 2**21
# The standard error of fewer samples is too rough to stop on.
LEAST_SAMPLES_TO_STOP = 30


@dataclass(frozen=True)
class Draw:
    """What to draw: at most `n_samples` (2 or more) thinned networks named by `seed`.

    `tolerance` ends the drawing once every row's standard error of the mean is at most
    that, in the target's units or, for classes, of the probabilities; `deadline` once
    `time.monotonic()` has passed it. Quantiles are levels between 0 and 1.
    """

    n_samples: int = 100
    seed: int = 0
    quantiles: Sequence[float] = ()
    tolerance: float | None = None
    deadline: float | None = None
    keep_samples: bool = False

    @property
    def may_stop_early(self) -> bool:
        return self.tolerance is not None or self.deadline is not None


@dataclass(frozen=True)
class Estimate:
    """The summary of N rows, and how it came about.

    `samples`, if kept, are (T, N) values in the target's units or (T, N, C) probabilities.
    `converged` says whether what was asked for is there: the tolerance met by the standard
    errors of these samples or, without a tolerance, all `n_samples` drawn.
    """

    summary: Summary
    samples_used: int
    converged: bool
    samples: Array | None = None


def estimate(plan: Plan, target: Target, x: Tensor, draw: Draw) -> Estimate:
    """The predictive distribution of the rows x (N, D) by textbook Monte Carlo.

    Memory is bounded whatever N and T, but for samples that are kept and for draws that
    may stop early: those hold N · T raw outputs.

    Raises:
        NotStochasticError: no layer drops anything.
        NonFiniteError: an output is not a finite number.
    """
    if not plan.is_stochastic:
        raise NotStochasticError(
            "this model has no active dropout (p = 0 everywhere), so there is no uncertainty "
            "to sample: train one with p > 0"
        )
    if draw.may_stop_early:
        return _estimate_until(plan, target, x, draw)
    floats_per_row = draw.n_samples * plan.config.raw_features
    parts, kept = [], []
    for rows in row_blocks(len(x), floats_per_row, BLOCK_OUTPUTS):
        drawn = sample(plan, x[rows], seed=draw.seed, n_samples=draw.n_samples)
        raw = _finite(drawn, first_row=rows.start)
        parts.append(summarise(target, raw, draw.quantiles))
        if draw.keep_samples:
            kept.append(_decoded(target, raw))
    samples = np.concatenate(kept, axis=1) if kept else None
    return Estimate(join(parts), draw.n_samples, converged=True, samples=samples)


def _estimate_until(plan: Plan, target: Target, x: Tensor, draw: Draw) -> Estimate:
    rule = _StopRule(target, draw)
    drawn = sample(plan, x, seed=draw.seed, n_samples=draw.n_samples, should_stop=rule.should_stop)
    raw = _finite(drawn)
    return Estimate(
        summarise(target, raw, draw.quantiles),
        len(raw),
        converged=rule.is_met or (draw.tolerance is None and len(raw) == draw.n_samples),
        samples=_decoded(target, raw) if draw.keep_samples else None,
    )


class _StopRule:
    """Watches the running moments of the decoded outputs (Chan, Golub & LeVeque 1983).

    `is_met` says whether the samples so far meet the tolerance, if there is one.
    """

    def __init__(self, target: Target, draw: Draw) -> None:
        self._target = target
        self._draw = draw
        self._count = 0
        self._mean: Array | float = 0.0
        self._sum_of_squares: Array | float = 0.0
        self.is_met = False

    def should_stop(self, latest: Tensor) -> bool:
        values = _decoded(self._target, latest.cpu().numpy().astype(np.float64))
        count, mean = len(values), values.mean(axis=0)
        total = self._count + count
        shift = mean - self._mean
        self._sum_of_squares = (
            self._sum_of_squares
            + ((values - mean) ** 2).sum(axis=0)
            + shift**2 * self._count * count / total
        )
        self._mean = self._mean + shift * count / total
        self._count = total
        tolerance = self._draw.tolerance
        if tolerance is not None:
            variance_of_mean = self._sum_of_squares / (total - 1) / total
            self.is_met = bool(np.sqrt(np.max(variance_of_mean)) <= tolerance)
        is_late = self._draw.deadline is not None and time.monotonic() >= self._draw.deadline
        return is_late or (self.is_met and total >= LEAST_SAMPLES_TO_STOP)


def _decoded(target: Target, raw: Array) -> Array:
    return softmax(raw) if target.task == "classification" else to_gaussians(target, raw)[0]


def _finite(raw: Tensor, first_row: int = 0) -> Array:
    """Raw outputs (T, N, K) as float64 on the CPU.

    Raises:
        NonFiniteError: with the rows, counted from `first_row`.
    """
    finite = torch.isfinite(raw).all(dim=2).all(dim=0)
    if not bool(finite.all()):
        rows = (~finite).nonzero().flatten().tolist()
        raise NonFiniteError([first_row + row for row in rows])
    return raw.cpu().numpy().astype(np.float64)
