"""What answers claimed, and how true that turned out once the truth was known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.calibration import Calibration, uncertainty_of
from models.conformal import row_uniforms
from models.uncertainty import ClassificationSummary, RegressionSummary, Summary

Array = np.ndarray

# Of the ranks of regressions and the confidences of classes.
BINS = 10
# No answer is held to be surer than this: one wrong one would else cost infinitely much.
LEAST_PROBABILITY = 1e-15
# Nor is any truth farther off than that, so that sums of squares stay numbers.
LEAST_STD, MOST_STDS = 1e-100, 1e100


@dataclass(frozen=True)
class Values:
    """Eval-mode outputs, decoded: (N, 1) values or (N, C) probabilities."""

    values: Array
    coverage: None = None

    @property
    def bytes(self) -> int:
        """Of the columns."""
        return self.values.size * 8

    def columns(self) -> Array:
        """What has to be kept of each row: the outputs themselves."""
        return self.values


@dataclass(frozen=True)
class Claims:
    """What N rows were promised, from inputs (N, D) and a seed: a distribution, and intervals or
    sets of that coverage, or none. What follows from it is found once, when it is asked for."""

    summary: Summary
    calibration: Calibration
    coverage: float | None
    inputs: Array
    seed: int

    @cached_property
    def uncertainty(self) -> Array:
        """The std in the target's units, of classes the entropy in nats, (N,)."""
        return uncertainty_of(self.summary)

    @cached_property
    def abstains(self) -> Array:
        """Which rows (N,) are too uncertain to be accepted."""
        return self.uncertainty > self.calibration.threshold

    @cached_property
    def interval(self) -> tuple[Array, Array]:
        """Lower and upper ends, (N,) each: of a regression, with a coverage.

        Raises:
            CoverageError: more than the calibration can vouch for.
        """
        assert isinstance(self.summary, RegressionSummary)
        assert self.coverage is not None
        return self.calibration.interval(self.summary, self.coverage)

    @cached_property
    def members(self) -> Array:
        """Which classes (N, C) are in the sets: of a classification; raises as `interval` does."""
        assert isinstance(self.summary, ClassificationSummary)
        assert self.coverage is not None
        uniforms = row_uniforms(self.inputs, self.seed)
        probabilities = self.summary.probabilities
        return self.calibration.prediction_set(probabilities, self.coverage, uniforms)

    @property
    def bytes(self) -> int:
        """Of the columns."""
        parts = 1 if self.coverage is None else 2
        if isinstance(self.summary, RegressionSummary):
            return 16 * parts * len(self.summary.mean)
        return 8 * parts * self.summary.probabilities.size

    def columns(self) -> Array:
        """What has to be kept of each row: mean, std, and the interval's ends if there is one;
        or C probabilities, and which of C classes are in the set."""
        summary = self.summary
        if isinstance(summary, RegressionSummary):
            ends = () if self.coverage is None else self.interval
            return np.array([summary.mean, self.uncertainty, *ends]).T
        if self.coverage is None:
            return summary.probabilities
        return np.concatenate([summary.probabilities, self.members], axis=1)


@dataclass(frozen=True)
class Score:
    """How one row's answer compares with the truth; None where nothing was claimed.

    `error` is the signed error in the target's unit, for classes 1 if the label was wrong.
    `score` is the CRPS in that unit, or the Brier score; `bin` counts from 0 to `BINS` - 1 the
    rank of the truth in the predictive distribution, or the confidence in the label.
    """

    error: float
    covered: bool | None = None
    nll: float | None = None
    score: float | None = None
    confidence: float | None = None
    bin: int | None = None


def score_value(columns: Array, truth: float) -> Score:
    """Of a regression's row: (1,) a value, or as `Claims.columns`.

    Likelihood and CRPS are those of the Gaussian with that mean and std (CRPS: Gneiting &
    Raftery 2007, equation 21).
    """
    if len(columns) == 1:
        return Score(float(columns[0]) - truth)
    mean, std, *ends = columns.tolist()
    std = max(std, LEAST_STD)
    z = min(max((truth - mean) / std, -MOST_STDS), MOST_STDS)
    below = 0.5 * math.erfc(-z / math.sqrt(2.0))
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return Score(
        mean - truth,
        covered=ends[0] <= truth <= ends[1] if ends else None,
        nll=0.5 * z * z + math.log(std) + 0.5 * math.log(2.0 * math.pi),
        score=std * (z * (2.0 * below - 1.0) + 2.0 * density - 1.0 / math.sqrt(math.pi)),
        bin=min(int(below * BINS), BINS - 1),
    )


def score_label(columns: Array, truth: int, n_classes: int) -> Score:
    """Of a classification's row: (C,) probabilities, or as `Claims.columns`."""
    probabilities, members = columns[:n_classes], columns[n_classes:]
    observed = np.eye(n_classes)[truth]
    label = int(probabilities.argmax())
    confidence = float(probabilities[label])
    return Score(
        float(label != truth),
        covered=bool(members[truth]) if len(members) else None,
        nll=-math.log(max(float(probabilities[truth]), LEAST_PROBABILITY)),
        score=float(((probabilities - observed) ** 2).sum()),
        confidence=confidence,
        bin=min(int(confidence * BINS), BINS - 1),
    )


@dataclass(frozen=True)
class Tally:
    """Sums over `rows` rows that have the same `bin` (None: of answers without a distribution)."""

    bin: int | None
    rows: int
    error: float  # of absolute errors
    squared_error: float
    nll: float
    score: float
    confidence: float


def live_figures(tallies: Sequence[Tally], *, is_regression: bool) -> dict[str, float]:
    """Error, likelihood, proper score and calibration of all rows of the tallies.

    The calibration error of a regression is the mean gap, over nine levels, between a level and
    the share of rows whose truth had a lower rank (Kuleshov, Fenner & Ermon 2018, section 3.5,
    with absolute gaps); that of classes the mean gap between confidence and accuracy over bins
    of confidence, weighted by rows (Guo et al. 2017, equation 3).
    """
    rows = sum(tally.rows for tally in tallies)
    error = sum(tally.error for tally in tallies) / rows
    binned = [tally for tally in tallies if tally.bin is not None]
    figures = {"accuracy": 1.0 - error}
    if is_regression:
        squared = sum(tally.squared_error for tally in tallies) / rows
        figures = {"rmse": math.sqrt(squared), "mae": error}
    if not binned:
        return figures
    figures["nll"] = sum(tally.nll for tally in binned) / rows
    figures["crps" if is_regression else "brier"] = sum(tally.score for tally in binned) / rows
    counts, wrong, confidence = np.zeros((3, BINS))
    for tally in binned:
        assert tally.bin is not None
        counts[tally.bin] += tally.rows
        wrong[tally.bin] += tally.error
        confidence[tally.bin] += tally.confidence
    if is_regression:
        levels = np.arange(1, BINS) / BINS
        gap = np.abs(counts.cumsum()[:-1] / rows - levels).mean()
    else:
        gap = np.abs(counts - wrong - confidence).sum() / rows
    return figures | {"calibration_error": float(gap)}
