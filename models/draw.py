"""What to draw, and what `auto` stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.plan import Plan
from models.table import Target

Estimator = Literal["auto", "mc", "stratified", "control_variate", "analytic"]

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
        n_samples = max(LEAST_AUTO_SAMPLES, math.ceil(n_samples / worth_of(plan, target)))
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


def worth_of(plan: Plan, target: Target) -> float:
    """How many textbook samples one of `auto`'s stands for."""
    depth = "shallow" if len(plan.probabilities) <= 2 else "deep"
    strength = "gentle" if max(plan.probabilities, default=0.0) <= 0.25 else "strong"
    return WORTH.get((target.task, depth, strength), 1.0)
