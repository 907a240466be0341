"""Which conformal score intervals are built on: scaled by the predictive std, or all of one
width. Validation rows choose, so that the calibration rows' scores stay exchangeable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.calibration import LEAST_ROWS, SAMPLE_COUNTS
from models.conformal import RegressionScore, ScoreKind, interval_scale
from models.held_out import HeldOut, hold_out
from models.sampling import Plan
from models.table import Target
from models.training_run import Split
from models.uncertainty import RegressionSummary

Array = np.ndarray

# The score of prediction sets. LAC makes the smallest sets, and pays for them with the rows
# that are hardest to tell; APS covers these best, with the largest sets; RAPS lies between
# (docs/benchmarks/prediction-sets.md).
CLASS_SCORE: ScoreKind = "raps"
# More validation rows than these are not asked.
MOST_ROWS = 2_000
# Levels at which the two kinds of intervals are compared.
COVERAGES = (0.8, 0.9, 0.95)


def choose_scores(plan: Plan, target: Target, validation: Split) -> Mapping[int, ScoreKind]:
    """The kind of score for each number of samples T."""
    if target.task == "classification":
        return dict.fromkeys(SAMPLE_COUNTS, CLASS_SCORE)
    first = Split(validation.x[:MOST_ROWS], validation.y[:MOST_ROWS])
    found = hold_out(plan, target, first)
    return {count: choose_interval_score(found, count) for count in SAMPLE_COUNTS}


def choose_interval_score(validation: HeldOut, n_samples: int) -> RegressionScore:
    """What intervals are to be built on.

    One width is taken where fewer than `LEAST_ROWS` validation rows cannot tell what the
    predictive std is worth, or where its interval score, which rewards narrowness and
    punishes misses, is better by more than one standard error over rows.
    """
    n_rows = len(validation.truth)
    if n_rows < LEAST_ROWS:
        return "absolute"
    gains = []
    for summary in validation.groups(n_samples):
        assert isinstance(summary, RegressionSummary)
        scaled, absolute = (
            _interval_scores(np.abs(validation.truth - summary.mean), interval_scale(kind, summary))
            for kind in ("scaled", "absolute")
        )
        gains.append(scaled - absolute)
    gain = np.mean(gains, axis=0)
    error = gain.std(ddof=1) / n_rows**0.5
    return "absolute" if gain.mean() > error else "scaled"


def _interval_scores(residuals: Array, scale: Array) -> Array:
    """Interval scores (N,) of mean -/+ q · scale with q the quantile of these same rows, mean
    over levels (Gneiting & Raftery 2007, equation 43)."""
    total = np.zeros_like(residuals)
    for coverage in COVERAGES:
        reach = np.quantile(residuals / scale, coverage) * scale
        total += 2.0 * reach + 2.0 / (1.0 - coverage) * np.maximum(0.0, residuals - reach)
    return np.asarray(total / len(COVERAGES))
