"""Estimators: from a network and a seed to moments of the predictive distribution.

- `mc`: independent masks, equal weights; the textbook, and the reference for the others.
- `stratified`: stratified masks, the last mask integrated out where the output is linear.
- `control_variate`: these, and the network's linearisation as a control variate.
- `analytic`: no sampling, a small bias instead (`models.analytic`).
- `auto`: `control_variate` with as many samples as match `n_samples` textbook ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models import kernel
from models.analytic import N_POINTS, summarise_analytically
from models.at_once import summarise_at_once
from models.draw import LEAST_AUTO_SAMPLES, Draw, choose, worth_of
from models.errors import EstimatorError, NotStochasticError
from models.reduced import Reduced, draw_reduced
from models.sampling import Plan, row_blocks, sample
from models.table import Target, softmax
from models.uncertainty import (
    Summary,
    check_finite,
    is_finite,
    join,
    moments,
    summarise,
    take_rows,
    to_gaussians,
)
from models.variance_reduction import (
    in_units,
    standard_error,
    summarise_reduced,
)

Array = np.ndarray

# Raw outputs held at a time: 8 MB as drawn, a few times that while they are summarised.
BLOCK_OUTPUTS = 2**21
# The standard error of fewer samples is too rough to stop on.
LEAST_SAMPLES_TO_STOP = 30
# What the analytic estimator's moments are as good as, for the calibration: all samples.
MANY = 10_000


@dataclass(frozen=True)
class Estimate:
    """The summary of N rows, and how it came about.

    `samples`, if kept, are (T, N) values in the target's units or (T, N, C) probabilities.
    `converged` says whether what was asked for is there: the tolerance met by the standard
    errors of these samples or, without a tolerance, all samples that were planned drawn.
    `textbook_samples` says how many of those are as accurate, at least: by it the calibration
    is found. `plain` (N, K) are the raw outputs of eval mode, if they came along.
    """

    summary: Summary
    estimator: str
    samples_used: int
    textbook_samples: int
    converged: bool
    samples: Array | None = None
    plain: Array | None = None

    def __getitem__(self, rows: slice) -> Estimate:
        """That of these rows alone."""
        samples = None if self.samples is None else self.samples[:, rows]
        plain = None if self.plain is None else self.plain[rows]
        return replace(self, summary=take_rows(self.summary, rows), samples=samples, plain=plain)


def estimate(
    plan: Plan, target: Target, rows: Tensor | Array, draw: Draw, *, analytic_gap: float = 0.0
) -> Estimate:
    """The predictive distribution of the rows (N, D).

    Memory is bounded whatever N and T, but for samples that are kept and for draws that
    may stop early: those hold N · T raw outputs. `analytic_gap` is what the analytic
    estimator calls the standard error of its mean, in units of a row's epistemic std (or std).

    Raises:
        NotStochasticError: no layer drops anything.
        EstimatorError: samples are asked of an estimator that draws none.
        NonFiniteError: an output is not a finite number.
    """
    if not plan.is_stochastic:
        raise NotStochasticError(
            "this model has no active dropout (p = 0 everywhere), so there is no uncertainty "
            "to sample: train one with p > 0"
        )
    draw = choose(plan, target, draw)
    at_once = _summarise_at_once(plan, target, rows, draw)
    kept, samples_used = [], draw.n_samples
    summary: Summary
    if at_once is not None:
        summary, plain = at_once
    else:
        x = torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows
        if draw.estimator == "analytic":
            return _estimate_analytically(plan, target, x, draw, analytic_gap)
        parts, plain = [], None
        for block in _row_blocks(plan, x, draw):
            drawn = _draw(plan, target, x[block], draw)
            raw = drawn.raw if isinstance(drawn, Reduced) else _to_array(drawn)
            samples_used = len(raw)
            check_finite(np.isfinite(raw).all(axis=(0, 2)), block.start)
            parts.append(_summarise(target, drawn, draw))
            if draw.keep_samples:
                kept.append(_decoded(target, raw))
        summary = join(parts)
        check_finite(is_finite(summary))
    textbook_samples = samples_used
    if draw.estimator == "control_variate" and samples_used >= LEAST_AUTO_SAMPLES:
        textbook_samples = math.floor(samples_used * worth_of(plan, target))
    return Estimate(
        summary,
        draw.estimator,
        samples_used,
        textbook_samples,
        converged=_is_met(summary.standard_error, draw)
        if draw.tolerance is not None
        else samples_used == draw.n_samples,
        samples=np.concatenate(kept, axis=1) if kept else None,
        plain=plain,
    )


def _summarise_at_once(
    plan: Plan, target: Target, rows: Tensor | Array, draw: Draw
) -> tuple[Summary, Array] | None:
    if draw.may_stop_early or draw.keep_samples or draw.estimator == "analytic":
        return None
    return summarise_at_once(
        plan, target, rows, draw.seed, draw.n_samples, draw.estimator, draw.quantiles
    )


def _estimate_analytically(
    plan: Plan, target: Target, x: Tensor, draw: Draw, gap: float
) -> Estimate:
    if draw.keep_samples:
        raise EstimatorError("the analytic estimator draws no samples: there are none to return")
    parts: list[Summary] = []
    for rows in row_blocks(len(x), _floats_per_row(plan, N_POINTS), BLOCK_OUTPUTS):
        summary = summarise_analytically(plan, target, x[rows], draw.quantiles, rows.start)
        parts.append(replace(summary, standard_error=gap * moments(summary)[1]))
    summary = join(parts)
    check_finite(is_finite(summary))
    converged = draw.tolerance is None or _is_met(summary.standard_error, draw)
    return Estimate(summary, "analytic", 0, MANY, converged)


def _row_blocks(plan: Plan, x: Tensor, draw: Draw) -> Iterator[slice]:
    """Rows to draw for at a time: all of them where they share the decision to stop."""
    if draw.may_stop_early:
        return iter([slice(0, len(x))])
    return row_blocks(len(x), _floats_per_row(plan, draw.n_samples), BLOCK_OUTPUTS)


def _floats_per_row(plan: Plan, n_samples: int) -> int:
    outputs = plan.config.raw_features
    return outputs * (n_samples + outputs + max((plan.config.in_features, *plan.config.hidden)))


def linearised_floats_per_row(plan: Plan) -> int:
    """What a row needs beside its samples, in all estimators but `mc`."""
    return 4 * _floats_per_row(plan, 0)


def linearised_work_per_row(plan: Plan, draw: Draw) -> int:
    """Multiply-adds of a row beside its samples: the expansion forth and back, the covariance of
    its O outputs, and what they are integrated or projected with."""
    outputs = plan.config.out_features
    units = plan.config.in_features + sum(plan.config.hidden)
    points = N_POINTS + 10 * outputs if draw.estimator == "analytic" else draw.n_samples
    return (2 + outputs) * plan.products_per_row + outputs**2 * (units + points)


def _draw(plan: Plan, target: Target, x: Tensor, draw: Draw) -> Tensor | Reduced:
    rule = _StopRule(target, draw)
    if draw.estimator == "mc":

        def is_enough(drawn: Tensor) -> bool:
            return rule.should_stop(len(drawn), lambda: _to_array(drawn))

        return sample(
            plan,
            x,
            seed=draw.seed,
            n_samples=draw.n_samples,
            should_stop=is_enough if draw.may_stop_early else None,
        )
    return draw_reduced(
        plan,
        x,
        seed=draw.seed,
        n_samples=draw.n_samples,
        use_control=draw.estimator == "control_variate",
        should_stop=rule.should_stop if draw.may_stop_early else None,
    )


def _summarise(target: Target, drawn: Tensor | Reduced, draw: Draw) -> Summary:
    if isinstance(drawn, Reduced):
        with np.errstate(invalid="ignore", over="ignore"):  # looked at when all are joined
            return summarise_reduced(target, drawn, draw.quantiles)
    is_on_cpu = drawn.device.type == "cpu"
    if target.task == "regression" and kernel.is_available() and is_on_cpu:
        return in_units(target, kernel.summarise_samples(drawn, draw.quantiles))
    return summarise(target, _to_array(drawn), draw.quantiles)


class _StopRule:
    """Whether the samples so far are enough, or the time is up.

    Standard errors are looked at when there are a quarter more samples than the last time, so
    that all looks together cost a few times the last one.
    """

    def __init__(self, target: Target, draw: Draw) -> None:
        self._target = target
        self._draw = draw
        self._next_look = LEAST_SAMPLES_TO_STOP

    def should_stop(self, count: int, drawn: Callable[[], Array | Reduced]) -> bool:
        if self._draw.deadline is not None and time.monotonic() >= self._draw.deadline:
            return True
        if self._draw.tolerance is None or count < self._next_look:
            return False
        self._next_look = math.ceil(1.25 * count)
        with np.errstate(invalid="ignore", over="ignore"):
            return _is_met(self._standard_error(drawn()), self._draw)

    def _standard_error(self, drawn: Array | Reduced) -> Array:
        if isinstance(drawn, Reduced):
            return standard_error(self._target, drawn)
        values = _decoded(self._target, drawn)
        count = len(values)
        # Stopping picks moments at which the estimate is low: one deviation of it on top.
        caution = 1.0 + 1.0 / math.sqrt(2.0 * (count - 1))
        return np.asarray(caution * values.std(axis=0, ddof=1) / math.sqrt(count))


def _is_met(standard_error: Array, draw: Draw) -> bool:
    return draw.tolerance is not None and bool(standard_error.max() <= draw.tolerance)


def _decoded(target: Target, raw: Array) -> Array:
    return softmax(raw) if target.task == "classification" else to_gaussians(target, raw)[0]


def _to_array(raw: Tensor) -> Array:
    return raw.cpu().numpy().astype(np.float64)
