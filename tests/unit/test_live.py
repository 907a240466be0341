"""Scores of single rows and their sums, against other people's libraries."""

import numpy as np
import pytest
import scoringrules
import torch
from scipy import stats
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from models.live import BINS, Tally, live_figures, score_label, score_value

RNG = np.random.default_rng(0)
N = 400
MEAN, STD = RNG.normal(10, 5, N), RNG.uniform(0.5, 3, N)
TRUTH = MEAN + STD * RNG.normal(0, 1.3, N)
PROBABILITIES = RNG.dirichlet([0.6, 0.8, 1.0], N)
LABELS = RNG.integers(0, 3, N)


def test_a_value_is_scored_as_by_its_gaussian() -> None:
    scores = [
        score_value(np.array([m, s, m - s, m + s]), float(y))
        for m, s, y in zip(MEAN, STD, TRUTH, strict=True)
    ]
    normal = stats.norm(MEAN, STD)
    assert [s.nll for s in scores] == pytest.approx(-normal.logpdf(TRUTH))
    assert [s.score for s in scores] == pytest.approx(scoringrules.crps_normal(TRUTH, MEAN, STD))
    assert [s.bin for s in scores] == np.floor(normal.cdf(TRUTH) * BINS).tolist()
    assert [s.covered for s in scores] == (np.abs(TRUTH - MEAN) <= STD).tolist()
    assert [s.error for s in scores] == pytest.approx(MEAN - TRUTH)


def test_truths_beyond_any_tail_have_finite_scores() -> None:
    for truth in (1e100, -1e100):
        score = score_value(np.array([0.0, 1e-12, -2.0, 2.0]), truth)
        assert score.covered is False
        assert np.isfinite([score.nll, score.score, score.error**2]).all()
        assert score.bin == (BINS - 1 if truth > 0 else 0)


def test_what_was_not_claimed_is_not_scored() -> None:
    plain = score_value(np.array([3.0]), 5.0)
    assert (plain.error, plain.covered, plain.nll, plain.bin) == (-2.0, None, None, None)
    assert score_value(np.array([3.0, 1.0]), 5.0).covered is None
    assert score_label(np.array([0.2, 0.8]), 1, 2).covered is None


def test_a_label_is_scored_as_by_its_probabilities() -> None:
    members = PROBABILITIES > 0.2
    scores = [
        score_label(np.concatenate([p, m]), int(label), 3)
        for p, m, label in zip(PROBABILITIES, members, LABELS, strict=True)
    ]
    tallies = [Tally(s.bin, 1, s.error, s.error, s.nll, s.score, s.confidence) for s in scores]
    found = live_figures(tallies, is_regression=False)
    assert found["nll"] == pytest.approx(metrics.log_loss(LABELS, PROBABILITIES))
    assert found["brier"] == pytest.approx(
        metrics.brier_score_loss(LABELS, PROBABILITIES, scale_by_half=False)
    )
    accuracy = metrics.accuracy_score(LABELS, PROBABILITIES.argmax(axis=1))
    assert found["accuracy"] == pytest.approx(accuracy)
    oracle = multiclass_calibration_error(
        torch.from_numpy(PROBABILITIES), torch.from_numpy(LABELS), 3, n_bins=BINS, norm="l1"
    )
    assert found["calibration_error"] == pytest.approx(float(oracle), abs=1e-6)
    assert [s.covered for s in scores] == members[np.arange(N), LABELS].tolist()


def test_a_regressions_figures() -> None:
    scores = [
        score_value(np.array([m, s]), float(y)) for m, s, y in zip(MEAN, STD, TRUTH, strict=True)
    ]
    tallies = [Tally(s.bin, 1, abs(s.error), s.error**2, s.nll, s.score, 0.0) for s in scores]
    found = live_figures(tallies, is_regression=True)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(TRUTH, MEAN))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(TRUTH, MEAN))
    # The truth's spread is 1.3 stds: the share below the level-u quantile is Φ(Φ⁻¹(u) / 1.3).
    levels = np.arange(1, BINS) / BINS
    expected = np.abs(stats.norm.cdf(stats.norm.ppf(levels) / 1.3) - levels).mean()
    assert found["calibration_error"] == pytest.approx(expected, abs=4.3 * 0.5 / np.sqrt(N))
    assert found["calibration_error"] > 0.02
    pooled = Tally(None, N, N * found["mae"], N * found["rmse"] ** 2, 0.0, 0.0, 0.0)
    assert live_figures([pooled], is_regression=True) == pytest.approx(
        {"rmse": found["rmse"], "mae": found["mae"]}
    )
