"""Conformal ranks, sets, and the abstention threshold."""

import numpy as np
import pytest

from models.calibration import (
    SAMPLE_COUNTS,
    Calibration,
    CalibrationTable,
    calibrate,
    calibrate_groups,
)
from models.errors import CoverageError, DataError
from models.table import Target, softmax
from models.uncertainty import ClassificationSummary, RegressionSummary, summarise


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
    calibration = calibrate_groups([regression(np.full(999, 10.0), std)], truth)
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
        lower, upper = calibrate_groups([summary], truth[:60]).interval(summary, coverage)
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
        calibration = calibrate_groups([classification(sharpened[:60])], truth[:60])
        members = calibration.prediction_set(sharpened[60:], coverage)
        hits.append(members[np.arange(60), truth[60:]].mean())
    assert np.mean(hits) > coverage - 4.27 * np.std(hits) / 20


def test_a_set_is_never_empty_and_grows_with_coverage() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), 200)
    calibration = calibrate_groups([classification(p)], p.argmax(axis=1))
    small = calibration.prediction_set(p, 0.1)
    large = calibration.prediction_set(p, 0.99)
    assert (small.sum(axis=1) >= 1).all()
    assert (small <= large).all()
    assert small[np.arange(200), p.argmax(axis=1)].all()


def test_nine_in_ten_calibration_rows_are_accepted() -> None:
    std = np.arange(1.0, 101.0)
    calibration = calibrate_groups([regression(np.zeros(100), std)], np.ones(100))
    abstains = calibration.abstains(regression(np.zeros(100), std))
    assert abstains.sum() == 10
    assert abstains[-10:].all()
    assert calibration.measure == "std"
    classes = calibrate_groups([classification(np.full((20, 2), 0.5))], np.zeros(20, int))
    assert classes.measure == "entropy"


def test_groups_of_samples_give_every_gth_score() -> None:
    truth = np.arange(1.0, 5.0)
    groups = [regression(np.zeros(4), np.full(4, std)) for std in (1.0, 10.0)]
    calibration = calibrate_groups(groups, truth)
    # All scores: 0.1 0.2 0.3 0.4 1 2 3 4.
    np.testing.assert_allclose(calibration.scores, [0.2, 0.4, 2.0, 4.0])


def test_fewer_samples_use_a_calibration_of_fewer() -> None:
    table = CalibrationTable({n: Calibration(np.ones(3) * n, "std", 1.0) for n in (2, 5, 100)})
    used = {n: int(table.at(n).scores[0]) for n in (2, 3, 4, 5, 99, 100, 10_000)}
    assert used == {2: 2, 3: 2, 4: 2, 5: 5, 99: 5, 100: 100, 10_000: 100}
    assert table.finest.scores[0] == 100
    thresholds = {2: 0.9, 5: 1.1, 100: 1.0}
    table = CalibrationTable({n: Calibration(np.ones(3), "std", t) for n, t in thresholds.items()})
    stricter = {n: table.at(n).threshold for n in (2, 3, 5, 50, 100, 200)}
    assert stricter == {2: 0.9, 3: 0.9, 5: 1.1, 50: 1.0, 100: 1.0, 200: 1.0}
    with pytest.raises(ValueError, match="differ in measure or in rows"):
        CalibrationTable({})


@pytest.mark.parametrize("n_samples", [2, 4, 10, 300])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_coverage_holds_for_any_number_of_samples(task: str, n_samples: int) -> None:
    """Masks of their own on both sides; 80 draws of 100 calibration and 100 new rows.

    Truths come from the model itself with far less noise than the masks make, where two
    samples mistake their own spread the most.
    """
    rng = np.random.default_rng(4)
    target = Target("y", ("a", "b", "c") if task == "classification" else ())
    hits = []
    for _ in range(80):
        centre = rng.normal(size=(200, 3))
        raw = centre + rng.normal(size=(100 + n_samples, 200, 3))
        if task == "regression":
            raw = np.stack([raw[..., 0], np.full(raw.shape[:2], np.log(0.1))], axis=2)
            truth = centre[:, 0] + rng.normal(size=200)
        else:
            truth = rng.multinomial(1, softmax(centre)).argmax(axis=1)
        table = calibrate(target, raw[:100, :100], truth[:100])
        summary = summarise(target, raw[100:, 100:])
        calibration = table.at(n_samples)
        if isinstance(summary, RegressionSummary):
            lower, upper = calibration.interval(summary, 0.9)
            hits.append(((lower <= truth[100:]) & (truth[100:] <= upper)).mean())
        else:
            members = calibration.prediction_set(summary.probabilities, 0.9)
            hits.append(members[np.arange(100), truth[100:]].mean())
    error = np.std(hits) / np.sqrt(len(hits))
    exact = np.ceil(101 * 0.9) / 101
    assert np.mean(hits) > exact - 4.27 * error
    if task == "regression" and n_samples in SAMPLE_COUNTS:
        assert np.mean(hits) < exact + 0.02 + 4.27 * error


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="9 calibration rows are too few, 10 are the least"):
        calibrate(Target("y"), np.zeros((4, 9, 2)), np.zeros(9))
