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
from models.held_out import HeldOut
from models.table import Target, softmax
from models.uncertainty import ClassificationSummary, RegressionSummary, summarise

NONE = np.empty(0)  # regression uses no uniforms


def held_out(target: Target, raw: np.ndarray, truth: np.ndarray, rng: object) -> HeldOut:
    return HeldOut(target, raw[:1], raw, truth, rng.random(len(truth)))


def regression(mean: np.ndarray, std: np.ndarray) -> RegressionSummary:
    zeros = np.zeros_like(mean)
    return RegressionSummary(mean, zeros, std, np.empty((len(mean), 0)), zeros)


def classification(probabilities: np.ndarray) -> ClassificationSummary:
    n = len(probabilities)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    return ClassificationSummary(
        probabilities, probabilities, probabilities, entropy, entropy, np.zeros(n)
    )


def drawn(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A class of each row."""
    below = probabilities.cumsum(axis=1)[:, :-1]
    return (rng.random((len(below), 1)) > below).sum(axis=1)


def test_the_rank_is_the_ceiling_of_n_plus_1_times_coverage() -> None:
    calibration = Calibration(np.arange(1.0, 20.0), "std", 1.0, "scaled")  # 19 scores: 1 … 19
    for coverage, rank in ((0.9, 18), (0.95, 19), (0.5, 10), (0.05, 1), (0.001, 1), (0.41, 9)):
        assert calibration.quantile(coverage) == rank


def test_coverage_beyond_the_rows_is_refused_with_the_most_there_is() -> None:
    calibration = Calibration(np.arange(1.0, 20.0), "std", 1.0, "scaled")
    assert calibration.highest_coverage == 0.95
    with pytest.raises(CoverageError, match=r"more calibration rows than the 19 .* at most 0\.95"):
        calibration.quantile(0.96)


def test_the_most_that_is_advised_is_accepted() -> None:
    for n in range(10, 200):
        calibration = Calibration(np.arange(float(n)), "std", 1.0, "scaled")
        with pytest.raises(CoverageError) as caught:
            calibration.quantile(0.9999)
        advised = float(str(caught.value).split("at most ")[1].split(",")[0])
        calibration.quantile(advised)


@pytest.mark.parametrize(("coverage", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_where_the_rank_first_fits_the_widest_score_is_taken(coverage: float, least: int) -> None:
    """⌈(n+1) · coverage⌉ > n just below n = coverage/(1 - coverage)."""
    if least > 1:
        with pytest.raises(CoverageError):
            Calibration(np.arange(float(least - 1)), "std", 1.0, "scaled").quantile(coverage)
    calibration = Calibration(np.arange(float(least)), "std", 1.0, "scaled")
    assert calibration.quantile(coverage) == least - 1
    assert calibration.highest_coverage == pytest.approx(coverage)


@pytest.mark.parametrize("n", [9, 10, 25, 39])
def test_any_new_score_is_as_likely_at_each_rank(n: int) -> None:
    """Exchangeability, exactly: of n + 1 scores each is once the new one, and those that stay
    below the quantile of the others are ⌈(n+1) · coverage⌉, whatever the scores."""
    scores = np.random.default_rng(n).standard_cauchy(n + 1)
    for coverage in (0.5, 0.8, 0.9):
        below = 0
        for i in range(n + 1):
            others = np.sort(np.delete(scores, i))
            below += scores[i] <= Calibration(others, "std", 1.0, "scaled").quantile(coverage)
        assert below == int(np.ceil(round((n + 1) * coverage, 9)))


def test_regression_intervals_scale_with_the_predictive_std() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(1, 5, 999)
    truth = 10 + std * rng.normal(size=999)
    calibration = calibrate_groups([regression(np.full(999, 10.0), std)], truth, NONE, "scaled")
    assert calibration.quantile(0.9) == pytest.approx(1.645, abs=0.1)
    lower, upper = calibration.interval(regression(np.array([0.0]), np.array([2.0])), 0.9)
    assert (upper - lower)[0] == pytest.approx(4 * calibration.quantile(0.9))
    assert (upper + lower)[0] == pytest.approx(0.0)


@pytest.mark.parametrize("score", ["scaled", "absolute"])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_intervals_cover_new_rows_as_often_as_they_say(coverage: float, score: str) -> None:
    """Even with a std that is wrong; 400 draws of 60 calibration and 60 new rows."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        truth = rng.standard_t(3, 120)
        summary = regression(np.zeros(60), np.full(60, 0.3))
        calibration = calibrate_groups([summary], truth[:60], NONE, score)
        lower, upper = calibration.interval(summary, coverage)
        hits.append(((lower <= truth[60:]) & (truth[60:] <= upper)).mean())
    error = np.std(hits) / 20
    expected = np.ceil(61 * coverage) / 61
    assert abs(np.mean(hits) - expected) < 4.27 * error


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_cover_new_rows_as_often_as_they_say(coverage: float, score: str) -> None:
    """Even with probabilities that are too sharp; 400 draws of 60 calibration and 60 new rows.
    Exact sets cover as often as the rank says, served ones no less."""
    rng = np.random.default_rng(2)
    exact, served = [], []
    for _ in range(400):
        p = rng.dirichlet(np.ones(4) * 0.7, 120)
        truth = drawn(p, rng)
        sharpened = p**2 / (p**2).sum(axis=1, keepdims=True)
        uniforms = rng.random(120)
        summary = classification(sharpened[:60])
        calibration = calibrate_groups([summary], truth[:60], uniforms[:60], score)
        new = (sharpened[60:], coverage, uniforms[60:])
        exact.append(calibration.exact_set(*new)[np.arange(60), truth[60:]].mean())
        served.append(calibration.prediction_set(*new)[np.arange(60), truth[60:]].mean())
    expected = np.ceil(61 * coverage) / 61
    assert abs(np.mean(exact) - expected) < 4.27 * np.std(exact) / 20
    assert np.mean(served) >= np.mean(exact)


def test_a_set_is_never_empty_and_grows_with_coverage() -> None:
    rng = np.random.default_rng(3)
    p, uniforms = rng.dirichlet(np.ones(5), 200), rng.random(200)
    calibration = calibrate_groups([classification(p)], p.argmax(axis=1), uniforms, "raps")
    assert not calibration.exact_set(p, 0.1, uniforms).any(axis=1).all()
    small = calibration.prediction_set(p, 0.1, uniforms)
    large = calibration.prediction_set(p, 0.99, uniforms)
    assert (small.sum(axis=1) >= 1).all()
    assert (small <= large).all()
    assert small[np.arange(200), p.argmax(axis=1)].all()


def test_the_threshold_is_that_of_the_risk_curve_over_all_groups() -> None:
    """20 rows of which the last two cost 10 times the others: these are left out."""
    std, truth = np.arange(1.0, 21.0), np.ones(20)
    truth[-2:] = 10.0
    summary = regression(np.zeros(20), std)
    calibration = calibrate_groups([summary, summary], truth, NONE, "scaled")
    assert calibration.threshold == 18.5
    assert calibration.abstains(summary).tolist() == [False] * 18 + [True] * 2
    assert calibration.measure == "std"
    classes = classification(np.full((20, 2), 0.5))
    calibration = calibrate_groups([classes], np.zeros(20, int), np.zeros(20), "raps")
    assert calibration.measure == "entropy"


def test_a_score_belongs_to_its_task() -> None:
    for measure, score in (("std", "raps"), ("entropy", "scaled"), ("std", "x")):
        with pytest.raises(ValueError, match="is no conformal score beside"):
            Calibration(np.ones(3), measure, 1.0, score)


def test_groups_of_samples_give_every_gth_score() -> None:
    truth = np.arange(1.0, 5.0)
    groups = [regression(np.zeros(4), np.full(4, std)) for std in (1.0, 10.0)]
    calibration = calibrate_groups(groups, truth, NONE, "scaled")
    # All scores: 0.1 0.2 0.3 0.4 1 2 3 4.
    np.testing.assert_allclose(calibration.scores, [0.2, 0.4, 2.0, 4.0])


def test_fewer_samples_use_a_calibration_of_fewer() -> None:
    table = CalibrationTable(
        {n: Calibration(np.ones(3) * n, "std", 1.0, "scaled") for n in (2, 5, 100)}
    )
    used = {n: int(table.at(n).scores[0]) for n in (2, 3, 4, 5, 99, 100, 10_000)}
    assert used == {2: 2, 3: 2, 4: 2, 5: 5, 99: 5, 100: 100, 10_000: 100}
    assert table.finest.scores[0] == 100
    thresholds = {2: 0.9, 5: 1.1, 100: 1.0}
    table = CalibrationTable(
        {n: Calibration(np.ones(3), "std", t, "scaled") for n, t in thresholds.items()}
    )
    stricter = {n: table.at(n).threshold for n in (2, 3, 5, 50, 100, 200)}
    assert stricter == {2: 0.9, 3: 0.9, 5: 1.1, 50: 1.0, 100: 1.0, 200: 1.0}
    with pytest.raises(ValueError, match="differ in measure or in rows"):
        CalibrationTable({})


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_coverage_holds_for_any_number_of_samples(task: str) -> None:
    """Masks of their own on both sides; 80 draws of 100 calibration and 100 new rows.

    Truths come from the model itself with far less noise than the masks make, where two
    samples mistake their own spread the most.
    """
    rng = np.random.default_rng(4)
    target = Target("y", ("a", "b", "c") if task == "classification" else ())
    kinds = dict.fromkeys(SAMPLE_COUNTS, "scaled" if task == "regression" else "raps")
    hits: dict[int, list[float]] = {2: [], 4: [], 10: [], 300: []}
    for _ in range(80):
        centre = rng.normal(size=(200, 3))
        if task == "regression":
            truth = centre[:, 0] + rng.normal(size=200)
        else:
            truth = rng.multinomial(1, softmax(centre)).argmax(axis=1)
        raw = centre + rng.normal(size=(400, 200, 3))
        if task == "regression":
            raw = np.stack([raw[..., 0], np.full(raw.shape[:2], np.log(0.1))], axis=2)
        table = calibrate([held_out(target, raw[:100, :100], truth[:100], rng)], kinds)
        for n_samples, found in hits.items():
            summary = summarise(target, raw[100 : 100 + n_samples, 100:])
            calibration = table.at(n_samples)
            if isinstance(summary, RegressionSummary):
                lower, upper = calibration.interval(summary, 0.9)
                found.append(((lower <= truth[100:]) & (truth[100:] <= upper)).mean())
            else:
                members = calibration.exact_set(summary.probabilities, 0.9, rng.random(100))
                found.append(members[np.arange(100), truth[100:]].mean())
    exact = np.ceil(101 * 0.9) / 101
    for n_samples, found in hits.items():
        error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) > exact - 4.27 * error, n_samples
        if n_samples in SAMPLE_COUNTS:
            assert np.mean(found) < exact + 0.02 + 4.27 * error, n_samples


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="9 calibration rows are too few, 10 are the least"):
        calibrate([HeldOut(Target("y"), *[np.zeros((4, 9, 2))] * 2, np.zeros(9), NONE)], {})


def test_parts_of_several_networks_are_pooled() -> None:
    """As if one network had answered for all rows; each part has its own target scale."""
    rng = np.random.default_rng(5)
    parts = [
        HeldOut(Target("y", mean=mean), raw[:1], raw, mean + rng.normal(size=n), rng.random(n))
        for mean, n in ((0.0, 20), (50.0, 30))
        for raw in [rng.normal(size=(10, n, 2))]
    ]
    table = calibrate(parts, {2: "scaled", 10: "absolute"}, {"mc_mode": 2.0})
    assert (table.folds, table.temperatures) == (2, {"mc_mode": 2.0})
    assert [len(c.scores) for c in table.by_samples.values()] == [50, 50]
    residuals = [np.abs(p.truth - p.drawn[..., 0].mean(axis=0) - p.target.mean) for p in parts]
    np.testing.assert_allclose(table.finest.scores, np.sort(np.concatenate(residuals)))


@pytest.mark.parametrize("wrong", [{"folds": 0}, {"temperatures": {"mc_mode": 0.0}}])
def test_a_table_without_folds_or_with_no_temperature_is_refused(wrong: dict) -> None:
    one = {2: Calibration(np.ones(3), "std", 1.0, "scaled")}
    with pytest.raises(ValueError, match="one fold or more, and positive temperatures"):
        CalibrationTable(one, **wrong)
