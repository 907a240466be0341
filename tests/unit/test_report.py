"""The card's figures: of the right rows, in both modes, with intervals judged by other rows."""

import json

import numpy as np
import pytest
import torch

from models import MLP, MLPConfig
from models.held_out import HeldOut
from models.interval_choice import choose_interval_score
from models.report import CURVE_COUNTS, measure, sampling_curve
from models.sampling import make_plan, predict
from models.table import Target
from models.training_run import Split


def regression_part(n: int, spread: float = 0.3, seed: int = 0, mean: float = 0.0) -> HeldOut:
    """Means that sway by `spread` over 100 samples, noise of std 1, truth of just that."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=n)
    drawn = np.stack([centre + spread * rng.normal(size=(100, n)), np.zeros((100, n))], axis=2)
    evaluated = np.stack([centre, np.zeros(n)], axis=1)[None]
    truth = mean + centre + np.hypot(1.0, spread) * rng.normal(size=n)
    return HeldOut(Target("y", mean=mean), evaluated, drawn, truth, rng.random(n))


def class_part(n: int, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(n, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    drawn = logits + 0.1 * rng.normal(size=(100, n, 3))
    return HeldOut(Target("y", ("a", "b", "c")), logits[None], drawn, truth, rng.random(n))


def test_a_calibrated_regression_is_found_to_be_one() -> None:
    part = regression_part(4000)
    evaluated, sampled = (measure([part], dropout=d, score="scaled") for d in (False, True))
    for figures in (evaluated, sampled):
        assert figures["rmse"] == pytest.approx(1.044, abs=0.05)
        assert figures["crps"] == pytest.approx(1.044 / np.pi**0.5, abs=0.03)
        for interval in figures["interval"]:
            assert interval["coverage"] == pytest.approx(interval["nominal"], abs=0.02)
        widths = [interval["mean_width"] for interval in figures["interval"]]
        np.testing.assert_allclose(widths, 2 * 1.044 * np.array([1.2816, 1.6449, 1.96]), rtol=0.05)
        assert figures["risk_coverage"][0]["risk"] == pytest.approx(figures["mae"])
    # Eval mode lacks the spread over samples, and is over-confident by just that.
    assert sampled["ece"] < 0.01
    assert sampled["nll"] < evaluated["nll"]


def test_a_calibrated_classifier_is_found_to_be_one() -> None:
    part = class_part(4000)
    for dropout in (False, True):
        figures = measure([part], dropout=dropout, score="raps")
        assert figures["ece"] < 0.03
        assert figures["aurc"] < 1.0 - figures["accuracy"]
        for one in figures["prediction_set"]:
            assert one["nominal"] - 0.02 < one["coverage"]
            assert 1.0 <= one["mean_size"] <= 3.0


def test_a_row_is_not_judged_by_its_own_score() -> None:
    """Of two parts, one is off by 100: its rows are outside what the other part vouches for,
    while the other's rows lie within."""
    parts = [regression_part(100), regression_part(100, seed=1)]
    parts[1] = HeldOut(
        parts[1].target, parts[1].evaluated, parts[1].drawn, parts[1].truth + 100.0,
        parts[1].uniforms,
    )  # fmt: skip
    (_, interval, _) = measure(parts, dropout=True, score="absolute")["interval"]
    assert interval["coverage"] == 0.5


def test_parts_with_other_target_scales_are_measured_in_the_targets_units() -> None:
    parts = [regression_part(2000), regression_part(2000, seed=1, mean=70.0)]
    figures = measure(parts, dropout=True, score="scaled")
    assert figures["rmse"] == pytest.approx(1.044, abs=0.05)
    assert figures["ece"] < 0.015


def test_coverage_that_half_the_rows_cannot_vouch_for_is_left_out() -> None:
    figures = measure([regression_part(10)], dropout=True, score="scaled")
    assert [one["coverage"] is None for one in figures["interval"]] == [False, True, True]
    json.dumps(figures, allow_nan=False)


def test_the_curve_over_samples_falls_to_that_of_all_samples() -> None:
    torch.manual_seed(0)
    plan = make_plan(MLP(MLPConfig(4, 1, (32, 32), p=0.3)))
    x = torch.randn(300, 4)
    target = Target("y", mean=5.0, std=2.0)
    curve = sampling_curve(plan, target, Split(x, predict(plan, x)[:, 0]))
    assert [point["n_samples"] for point in curve] == list(CURVE_COUNTS)
    errors = [point["rmse"] for point in curve]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 3 * errors[-1]


def test_intervals_are_scaled_where_that_helps_and_of_one_width_where_it_harms() -> None:
    rng = np.random.default_rng(0)
    n = 300

    def part(noise: np.ndarray, claimed: np.ndarray, n_rows: int = n) -> HeldOut:
        drawn = np.zeros((100, n_rows, 2))
        drawn[..., 1] = 2.0 * np.log(claimed[:n_rows])
        drawn[..., 0] = 0.01 * rng.normal(size=(100, n_rows))
        truth = (noise * rng.normal(size=n))[:n_rows]
        return HeldOut(Target("y"), drawn[:1], drawn, truth, np.zeros(n_rows))

    varied, constant = np.exp(rng.normal(size=n)), np.ones(n)
    for n_samples in (2, 100):
        assert choose_interval_score(part(varied, varied), n_samples) == "scaled"
        assert choose_interval_score(part(constant, varied), n_samples) == "absolute"
        assert choose_interval_score(part(varied, varied, 9), n_samples) == "absolute"
