"""What rows that were never trained on say about the model's own claims.

Conformal intervals and prediction sets, and the threshold beyond which to abstain.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from models.conformal import (
    CLASS_SCORES,
    REGRESSION_SCORES,
    ScoreKind,
    interval_scale,
    scores_of_labels,
    scores_of_truth,
)
from models.errors import CoverageError, DataError
from models.held_out import HeldOut
from models.selective import risk_curve
from models.uncertainty import RegressionSummary, Summary, join

Array = np.ndarray

# Fewer calibration rows than this cannot vouch for the default coverage of 0.9.
LEAST_ROWS = 10
# Numbers of samples with a calibration of their own; any other uses the one below it.
SAMPLE_COUNTS = (2, 3, 5, 10, 20, 50, 100)

Measure = Literal["std", "entropy"]
SCORES: Mapping[Measure, tuple[ScoreKind, ...]] = {
    "std": REGRESSION_SCORES,
    "entropy": CLASS_SCORES,
}


@dataclass(frozen=True)
class Calibration:
    """What holds for answers drawn with one number of samples.

    Conformal scores of the calibration rows, ascending, of the kind of `models.conformal`,
    and the abstention threshold: for regression a std in the target's units, for classes an
    entropy in nats.

    Raises:
        ValueError: scores that do not ascend or are not finite, an unknown measure, or a
            score that is not of that measure's task.
    """

    scores: Array
    measure: Measure
    threshold: float
    score: ScoreKind

    def __post_init__(self) -> None:
        if self.measure not in SCORES or not math.isfinite(self.threshold):
            raise ValueError(f"{self.measure} and {self.threshold} are no measure and threshold")
        if self.score not in SCORES[self.measure]:
            raise ValueError(f"{self.score} is no conformal score beside {self.measure}")
        if self.scores.ndim != 1 or not np.isfinite(self.scores).all():
            raise ValueError("the calibration scores are not a list of finite numbers")
        if (np.diff(self.scores) < 0.0).any():
            raise ValueError("the calibration scores do not ascend")

    @property
    def highest_coverage(self) -> float:
        """The most that this many rows can vouch for: n / (n + 1)."""
        return len(self.scores) / (len(self.scores) + 1)

    def quantile(self, coverage: float) -> float:
        """The score that a new row stays below with at least this probability.

        The order statistic of rank ⌈(n+1) · coverage⌉: split conformal prediction
        (Papadopoulos et al. 2002; Lei et al. 2018, theorem 2.2).

        Raises:
            CoverageError: that rank is beyond n; the interval would have to be infinite.
        """
        n = len(self.scores)
        rank = math.ceil((n + 1) * coverage - 1e-9)
        if rank > n:
            raise CoverageError(
                f"coverage {coverage:g} needs more calibration rows than the {n} this version "
                f"has: ask for at most {math.floor(1e4 * self.highest_coverage) / 1e4:g}, or "
                "train on more data"
            )
        return float(self.scores[max(rank, 1) - 1])

    def interval(self, summary: RegressionSummary, coverage: float) -> tuple[Array, Array]:
        """Lower and upper ends, (N,) each: mean -/+ quantile · scale."""
        reach = self.quantile(coverage) * interval_scale(self.score, summary)
        return summary.mean - reach, summary.mean + reach

    def exact_set(self, probabilities: Array, coverage: float, uniforms: Array) -> Array:
        """Which classes (N, C) conform, given a number in [0, 1) for each row; maybe none.

        These are the sets that cover exactly as often as they say.
        """
        scores = scores_of_labels(self.score, probabilities, uniforms)
        return np.asarray(scores <= self.quantile(coverage))

    def prediction_set(self, probabilities: Array, coverage: float, uniforms: Array) -> Array:
        """The exact set and the most probable class, as an empty set would help nobody."""
        members = self.exact_set(probabilities, coverage, uniforms)
        members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
        return members

    def abstains(self, summary: Summary) -> Array:
        """Which rows (N,) are more uncertain than the threshold."""
        return uncertainty_of(summary) > self.threshold


def uncertainty_of(summary: Summary) -> Array:
    """The measure by which rows are accepted or not, (N,)."""
    return summary.std if isinstance(summary, RegressionSummary) else summary.entropy


def losses_of(summary: Summary, truth: Array) -> Array:
    """What each row's answer costs, (N,): the absolute error, or 1 for a wrong class."""
    if isinstance(summary, RegressionSummary):
        return np.asarray(np.abs(truth - summary.mean))
    return np.asarray((summary.probabilities.argmax(axis=1) != truth).astype(np.float64))


@dataclass(frozen=True)
class CalibrationTable:
    """A calibration for each of several numbers of samples T.

    Fewer samples give a coarser mean and std, whose scores are larger: an interval that
    covers at T = 100 would not at T = 5.

    `folds` says how many networks the scores are from: 1 for a split of its own, more for
    cross-conformal ones. `temperatures` by mode are those that the network's outputs were
    divided by; it has them in it, here they are told. `analytic_gaps` are those of
    `models.report.analytic_gaps`.

    Raises:
        ValueError: no calibration, or they differ in measure or in rows; no folds; a
            temperature or a gap that is not positive.
    """

    by_samples: Mapping[int, Calibration]
    folds: int = 1
    temperatures: Mapping[str, float] = field(default_factory=dict)
    analytic_gaps: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {(c.measure, len(c.scores)) for c in self.by_samples.values()}
        if len(kinds) != 1:
            raise ValueError("the calibrations differ in measure or in rows")
        if self.folds < 1 or not all(t > 0.0 for t in self.temperatures.values()):
            raise ValueError("a calibration has one fold or more, and positive temperatures")
        if not all(gap >= 0.0 for gap in self.analytic_gaps.values()):
            raise ValueError("a gap is not negative")

    @cached_property
    def finest(self) -> Calibration:
        """That of the most samples."""
        return self.by_samples[max(self.by_samples)]

    def at(self, n_samples: int) -> Calibration:
        """That of so many samples; between two of them what is more cautious of both, in the
        scores and in the threshold."""
        if n_samples in self.by_samples:
            return self.by_samples[n_samples]
        counts, between = self._between
        return between[bisect_left(counts, n_samples)]

    @cached_property
    def _between(self) -> tuple[Sequence[int], Sequence[Calibration]]:
        """The numbers of samples, ascending, and what holds below the first of them, between
        each two, and above the last."""
        counts = sorted(self.by_samples)
        known = [self.by_samples[count] for count in counts]
        between = [
            replace(below, threshold=min(below.threshold, above.threshold))
            for below, above in pairwise(known)
        ]
        return counts, (known[0], *between, known[-1])


def calibrate(
    parts: Sequence[HeldOut],
    score: Mapping[int, ScoreKind],
    temperatures: Mapping[str, float] | None = None,
    analytic_gaps: Mapping[str, float] | None = None,
) -> CalibrationTable:
    """Calibrations from held-out rows, with the kind of score for each number of samples.

    One part is split conformal prediction; several, each of a network that has not seen that
    part, are pooled (`models.cross_conformal`). For fewer than T samples these are cut into
    groups, each of which answers for all rows: masks are drawn by chance as rows are, and two
    of them alone would say little.

    Raises:
        DataError: fewer than `LEAST_ROWS` rows.
    """
    truth = np.concatenate([part.truth for part in parts])
    uniforms = np.concatenate([part.uniforms for part in parts])
    if len(truth) < LEAST_ROWS:
        raise DataError(
            "too_few_rows",
            f"{len(truth)} calibration rows are too few, {LEAST_ROWS} are the least: upload more "
            "data or raise calibration_fraction",
            "calibration_fraction",
        )
    by_samples = {}
    for count, kind in score.items():
        groups = zip(*(part.groups(count) for part in parts), strict=True)
        by_samples[count] = calibrate_groups(map(join, groups), truth, uniforms, kind)
    return CalibrationTable(
        by_samples, len(parts), dict(temperatures or {}), dict(analytic_gaps or {})
    )


def calibrate_groups(
    summaries: Iterable[Summary], truth: Array, uniforms: Array, score: ScoreKind
) -> Calibration:
    """The calibration from G summaries of the same N rows, each by samples of its own.

    With one group its scores are those of split conformal prediction; of more, every G-th
    of all of them in order.
    """
    scores, uncertainties, losses = [], [], []
    measure: Measure = "std"
    for summary in summaries:
        scores.append(scores_of_truth(score, summary, truth, uniforms))
        uncertainties.append(uncertainty_of(summary))
        losses.append(losses_of(summary, truth))
        measure = "std" if isinstance(summary, RegressionSummary) else "entropy"
    ordered = np.sort(np.concatenate(scores))
    curve = risk_curve(np.concatenate(uncertainties), np.concatenate(losses))
    return Calibration(
        scores=ordered[len(scores) - 1 :: len(scores)].copy(),
        measure=measure,
        threshold=curve.threshold(),
        score=score,
    )
