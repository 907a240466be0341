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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from models import kernel
from models.analytic import N_POINTS, summarise_analytically
from models.at_once import summarise_at_once
from models.errors import EstimatorError, NotStochasticError
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
    Reduced,
    draw_reduced,
    in_units,
    standard_error,
    summarise_reduced,
)

Array = np.ndarray

Estimator = Literal["auto", "mc", "stratified", "control_variate", "analytic"]

# Raw outputs held at a time: 8 MB as drawn, a few times that while they are summarised.
BLOCK_OUTPUTS = 2**21
# The standard error of fewer samples is too rough to stop on.
LEAST_SAMPLES_TO_STOP = 30
# `auto`: fewer samples than this leave the std of a row too rough.
LEAST_AUTO_SAMPLES = 20
# `auto`: how many textbook samples one of the control variate's stands for in mean, std and
# quantiles, at least, as measured (docs/benchmarks/estimators.md): by task, by whether at most
# two layers drop, and by whether no p is above 1/4. Otherwise it is one for one.
WORTH = {
    ("regression", "shallow", "gentle"): 3.0,
    ("regression", "shallow", "strong"): 1.25,
    ("regression", "deep", "gentle"): 2.0,
    ("regression", "deep", "strong"): 1.25,
    ("classification", "shallow", "gentle"): 1.5,
    ("classification", "deep", "gentle"): 1.5,
}
# `auto`: beyond it the linearisation explains too little.
LARGEST_LINEARISED_P = 0.5
# What the analytic estimator's moments are as good as, for the calibration: all samples.
MANY = 10_000
# `auto`: with more classes the linearisation costs more than it saves.
MOST_LINEARISED_CLASSES = 32


@dataclass(frozen=True)
class Draw:
    """What to draw: at most `n_samples` (2 or more) thinned networks named by `seed`.

    `tolerance` ends the drawing once, with 30 samples or more, every row's standard error of the
    mean is at most that, in the target's units or, for classes, of the probabilities;
    `deadline` once `time.monotonic()` has passed it. Quantiles are levels between 0 and 1.
    """

    n_samples: int = 100
    seed: int = 0
    estimator: Estimator = "mc"
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
    errors of these samples or, without a tolerance, all samples that were planned drawn.
    `textbook_samples` says how many of those are as accurate, at least: by it the calibration
    is found.
    """

    summary: Summary
    estimator: str
    samples_used: int
    textbook_samples: int
    converged: bool
    samples: Array | None = None

    def __getitem__(self, rows: slice) -> Estimate:
        """That of these rows alone."""
        samples = None if self.samples is None else self.samples[:, rows]
        return replace(self, summary=take_rows(self.summary, rows), samples=samples)


def choose(plan: Plan, target: Target, draw: Draw) -> Draw:
    """The same with `auto` resolved: the cheapest estimator, and number of samples, whose mean,
    std and quantiles are at least as accurate as those of `n_samples` textbook samples.

    Samples that are asked for are textbook ones, all of them. A tolerance says itself how many
    samples are enough. The analytic estimator is never chosen: its bias is the same for any
    `n_samples`.
    """
    if draw.estimator != "auto":
        return draw
    n_classes = plan.config.out_features if target.task == "classification" else 0
    largest_p = max(plan.probabilities, default=0.0)
    if draw.keep_samples or n_classes > MOST_LINEARISED_CLASSES or largest_p > LARGEST_LINEARISED_P:
        return replace(draw, estimator="mc")
    n_samples = draw.n_samples
    if draw.tolerance is None:
        n_samples = max(LEAST_AUTO_SAMPLES, math.ceil(n_samples / _worth(plan, target)))
        n_samples = min(n_samples, draw.n_samples)
    return replace(draw, estimator="control_variate", n_samples=n_samples)


def is_rowwise(plan: Plan, draw: Draw) -> bool:
    """Whether a row's summary is the same to the bit among any other rows, as `choose` leaves the
    draw: all draws of regressions that do not stop for each other, but those that drop weights."""
    return (
        plan.config.head == "regression"
        and plan.config.dropout != "dropconnect"
        and draw.estimator != "analytic"
        and not draw.may_stop_early
    )


def _worth(plan: Plan, target: Target) -> float:
    depth = "shallow" if len(plan.probabilities) <= 2 else "deep"
    strength = "gentle" if max(plan.probabilities, default=0.0) <= 0.25 else "strong"
    return WORTH.get((target.task, depth, strength), 1.0)


def estimate(
    plan: Plan, target: Target, x: Tensor, draw: Draw, *, analytic_gap: float = 0.0
) -> Estimate:
    """The predictive distribution of the rows x (N, D).

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
    if draw.estimator == "analytic":
        return _estimate_analytically(plan, target, x, draw, analytic_gap)
    summary = _summarise_at_once(plan, target, x, draw)
    kept, samples_used = [], draw.n_samples
    if summary is None:
        parts = []
        for rows in _row_blocks(plan, x, draw):
            drawn = _draw(plan, target, x[rows], draw)
            raw = drawn.raw if isinstance(drawn, Reduced) else _to_array(drawn)
            samples_used = len(raw)
            check_finite(np.isfinite(raw).all(axis=(0, 2)), rows.start)
            parts.append(_summarise(target, drawn, draw))
            if draw.keep_samples:
                kept.append(_decoded(target, raw))
        summary = join(parts)
        check_finite(is_finite(summary))
    worth = _worth(plan, target) if samples_used >= LEAST_AUTO_SAMPLES else 1.0
    return Estimate(
        summary,
        draw.estimator,
        samples_used,
        math.floor(samples_used * worth) if draw.estimator == "control_variate" else samples_used,
        converged=_is_met(summary.standard_error, draw)
        if draw.tolerance is not None
        else samples_used == draw.n_samples,
        samples=np.concatenate(kept, axis=1) if kept else None,
    )


def _summarise_at_once(plan: Plan, target: Target, x: Tensor, draw: Draw) -> Summary | None:
    if draw.may_stop_early or draw.keep_samples:
        return None
    return summarise_at_once(
        plan, target, x, draw.seed, draw.n_samples, draw.estimator, draw.quantiles
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
