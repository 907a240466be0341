"""Conformal ranks, sets, and the abstention threshold."""

import numpy as np
import pytest

from models.calibration import Calibration, calibrate
from models.errors import CoverageError, DataError
from models.uncertainty import ClassificationSummary, RegressionSummary


def regression(mean: np.ndarray, std: np.ndarray) -> RegressionSummary:
    zeros = np.zeros_like(mean)
    return RegressionSummary(mean, zeros, std, np.empty((len(mean), 0)), zeros)


def classification(probabilities: np.ndarray) -> ClassificationSummary:
    n = len(probabilities)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    return ClassificationSummary(
        probabilities, probabilities, probabilities, entropy, entropy, np.zeros(n)
    )


def test_the_rank_is_the_ceiling_of_n_plus_1_times_coverage() -> None:
    calibration = Calibration(np.arange(1.0, 20.0), "std", 1.0)  # 19 scores: 1 … 19
    for coverage, rank in ((0.9, 18), (0.95, 19), (0.5, 10), (0.05, 1), (0.001, 1), (0.41, 9)):
        assert calibration.quantile(coverage) == rank


def test_coverage_beyond_the_rows_is_refused_with_the_most_there_is() -> None:
    calibration = Calibration(np.arange(1.0, 20.0), "std", 1.0)
    assert calibration.highest_coverage == 0.95
    with pytest.raises(CoverageError, match=r"more calibration rows than the 19 .* at most 0\.95"):
        calibration.quantile(0.96)


def test_the_most_that_is_advised_is_accepted() -> None:
    for n in range(10, 200):
        calibration = Calibration(np.arange(float(n)), "std", 1.0)
        with pytest.raises(CoverageError) as caught:
            calibration.quantile(0.9999)
        advised = float(str(caught.value).split("at most ")[1].split(",")[0])
        calibration.quantile(advised)


def test_regression_intervals_scale_with_the_predictive_std() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(1, 5, 999)
    truth = 10 + std * rng.normal(size=999)
    calibration = calibrate(regression(np.full(999, 10.0), std), truth)
    assert calibration.quantile(0.9) == pytest.approx(1.645, abs=0.1)
    lower, upper = calibration.interval(regression(np.array([0.0]), np.array([2.0])), 0.9)
    assert (upper - lower)[0] == pytest.approx(4 * calibration.quantile(0.9))
    assert (upper + lower)[0] == pytest.approx(0.0)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_intervals_cover_new_rows_as_often_as_they_say(coverage: float) -> None:
    """Even with a std that is wrong; 400 draws of 60 calibration and 60 new rows."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        truth = rng.standard_t(3, 120)
        summary = regression(np.zeros(60), np.full(60, 0.3))
        lower, upper = calibrate(summary, truth[:60]).interval(summary, coverage)
        hits.append(((lower <= truth[60:]) & (truth[60:] <= upper)).mean())
    error = np.std(hits) / 20
    expected = np.ceil(61 * coverage) / 61
    assert abs(np.mean(hits) - expected) < 4.27 * error


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_cover_new_rows_at_least_as_often_as_they_say(coverage: float) -> None:
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(400):
        p = rng.dirichlet(np.ones(4) * 0.7, 120)
        truth = np.array([rng.choice(4, p=row) for row in p])
        sharpened = p**2 / (p**2).sum(axis=1, keepdims=True)
        calibration = calibrate(classification(sharpened[:60]), truth[:60])
        members = calibration.prediction_set(sharpened[60:], coverage)
        hits.append(members[np.arange(60), truth[60:]].mean())
    assert np.mean(hits) > coverage - 4.27 * np.std(hits) / 20


def test_a_set_is_never_empty_and_grows_with_coverage() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), 200)
    calibration = calibrate(classification(p), p.argmax(axis=1))
    small = calibration.prediction_set(p, 0.1)
    large = calibration.prediction_set(p, 0.99)
    assert (small.sum(axis=1) >= 1).all()
    assert (small <= large).all()
    assert small[np.arange(200), p.argmax(axis=1)].all()


def test_nine_in_ten_calibration_rows_are_accepted() -> None:
    std = np.arange(1.0, 101.0)
    calibration = calibrate(regression(np.zeros(100), std), np.ones(100))
    abstains = calibration.abstains(regression(np.zeros(100), std))
    assert abstains.sum() == 10
    assert abstains[-10:].all()
    assert calibration.measure == "std"
    assert calibrate(classification(np.full((20, 2), 0.5)), np.zeros(20, int)).measure == "entropy"


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="9 calibration rows are too few, 10 are the least"):
        calibrate(regression(np.zeros(9), np.ones(9)), np.zeros(9))
