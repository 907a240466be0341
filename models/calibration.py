"""What a split of its own, never trained on, says about the model's own claims.

Conformal intervals and prediction sets, and the threshold beyond which to abstain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.errors import CoverageError, DataError
from models.table import Target
from models.uncertainty import ClassificationSummary, RegressionSummary, Summary, summarise

Array = np.ndarray

# Fewer calibration rows than this cannot vouch for the default coverage of 0.9.
LEAST_ROWS = 10
# Share of the calibration rows that the abstention threshold accepts.
ACCEPTED_SHARE = 0.9
# Numbers of samples with a calibration of their own; any other uses the one below it.
SAMPLE_COUNTS = (2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Calibration:
    """What holds for answers drawn with one number of samples.

    Conformal scores of the calibration rows, ascending, and the abstention threshold.

    A regression score is |y - mean| / std (both of the predictive distribution); a class
    score is 1 - p(true class). The measure of uncertainty is the std in the target's units,
    or the entropy in nats.

    Raises:
        ValueError: scores that do not ascend or are not finite, or an unknown measure.
    """

    scores: Array
    measure: Literal["std", "entropy"]
    threshold: float

    def __post_init__(self) -> None:
        if self.measure not in ("std", "entropy") or not math.isfinite(self.threshold):
            raise ValueError(f"{self.measure} and {self.threshold} are no measure and threshold")
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
        """Lower and upper ends, (N,) each: mean -/+ quantile · std."""
        reach = self.quantile(coverage) * summary.std
        return summary.mean - reach, summary.mean + reach

    def prediction_set(self, probabilities: Array, coverage: float) -> Array:
        """Which classes (N, C) are in each row's set; the most probable one always is.

        Source: Sadinle, Lei & Wasserman 2019, least ambiguous sets.
        """
        members = 1.0 - probabilities <= self.quantile(coverage)
        members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
        return np.asarray(members)

    def abstains(self, summary: Summary) -> Array:
        """Which rows (N,) are more uncertain than the threshold."""
        return uncertainty_of(summary) > self.threshold


def uncertainty_of(summary: Summary) -> Array:
    """The measure by which rows are accepted or not, (N,)."""
    return summary.std if isinstance(summary, RegressionSummary) else summary.entropy


@dataclass(frozen=True)
class CalibrationTable:
    """A calibration for each of several numbers of samples T.

    Fewer samples give a coarser mean and std, whose scores are larger: an interval that
    covers at T = 100 would not at T = 5.

    Raises:
        ValueError: no calibration, or they differ in measure or in rows.
    """

    by_samples: Mapping[int, Calibration]

    def __post_init__(self) -> None:
        kinds = {(c.measure, len(c.scores)) for c in self.by_samples.values()}
        if len(kinds) != 1:
            raise ValueError("the calibrations differ in measure or in rows")

    @property
    def finest(self) -> Calibration:
        """That of the most samples."""
        return self.by_samples[max(self.by_samples)]

    def at(self, n_samples: int) -> Calibration:
        """That of so many samples; between two of them what is more cautious of both, in the
        scores and in the threshold."""
        counts = sorted(self.by_samples)
        below = self.by_samples[max((c for c in counts if c <= n_samples), default=counts[0])]
        above = self.by_samples[min((c for c in counts if c >= n_samples), default=counts[-1])]
        return replace(below, threshold=min(below.threshold, above.threshold))


def calibrate(target: Target, raw: Array, truth: Array) -> CalibrationTable:
    """Calibrations from raw outputs (T, N, K) of N rows and their true values or class
    positions (N,).

    For fewer than T samples these are cut into groups, each of which answers for all rows:
    masks are drawn by chance as rows are, and two of them alone would say little.

    Raises:
        DataError: fewer than `LEAST_ROWS` rows.
    """
    if len(truth) < LEAST_ROWS:
        raise DataError(
            "too_few_rows",
            f"{len(truth)} calibration rows are too few, {LEAST_ROWS} are the least: upload more "
            "data or raise calibration_fraction",
            "calibration_fraction",
        )
    return CalibrationTable(
        {
            count: calibrate_groups(
                (
                    summarise(target, raw[start : start + count])
                    for start in range(0, len(raw) - count + 1, count)
                ),
                truth,
            )
            for count in SAMPLE_COUNTS
            if count <= len(raw)
        }
    )


def calibrate_groups(summaries: Iterable[Summary], truth: Array) -> Calibration:
    """The calibration from G summaries of the same N rows, each by samples of its own.

    With one group its scores are those of split conformal prediction; of more, every G-th
    of all of them in order.
    """
    scores, uncertainties = [], []
    measure: Literal["std", "entropy"] = "std"
    for summary in summaries:
        scores.append(_scores(summary, truth))
        uncertainties.append(uncertainty_of(summary))
        measure = "std" if isinstance(summary, RegressionSummary) else "entropy"
    ordered = np.sort(np.concatenate(scores))
    return Calibration(
        scores=ordered[len(scores) - 1 :: len(scores)].copy(),
        measure=measure,
        threshold=float(np.quantile(np.concatenate(uncertainties), ACCEPTED_SHARE)),
    )


def _scores(summary: Summary, truth: Array) -> Array:
    if isinstance(summary, ClassificationSummary):
        return np.asarray(1.0 - summary.probabilities[np.arange(len(truth)), truth])
    return np.asarray(np.abs(truth - summary.mean) / summary.std)
