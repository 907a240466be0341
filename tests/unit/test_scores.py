"""Scores against SciPy, scikit-learn, scoringrules, torchmetrics, and hand-made cases."""

import numpy as np
import pytest
import scoringrules
import torch
from scipy import stats
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from models.scores import (
    classification_errors,
    expected_calibration_error,
    mixture_crps,
    mixture_nll,
    quantile_calibration_error,
    regression_errors,
)


def test_regression_errors_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=50), rng.normal(size=50)
    got = regression_errors(truth, prediction)
    assert got["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, prediction))
    assert got["mae"] == pytest.approx(metrics.mean_absolute_error(truth, prediction))
    assert got["r2"] == pytest.approx(metrics.r2_score(truth, prediction))


def test_nll_of_one_component_is_the_normals() -> None:
    rng = np.random.default_rng(1)
    truth, mean, std = rng.normal(size=20), rng.normal(size=20), rng.uniform(0.1, 2, 20)
    got = mixture_nll(truth, mean[None], std[None] ** 2)
    assert got == pytest.approx(-stats.norm(mean, std).logpdf(truth).mean())


def test_nll_of_a_mixture_averages_densities_also_far_out() -> None:
    means, stds = np.array([[0.0], [5.0]]), np.array([[1.0], [0.1]])
    for value in (0.3, 4.9):
        density = stats.norm(means[:, 0], stds[:, 0]).pdf(value).mean()
        assert mixture_nll(np.array([value]), means, stds**2) == pytest.approx(-np.log(density))
    assert np.isfinite(mixture_nll(np.array([1e4]), means, stds**2))


def test_classification_errors_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), 100)
    truth = rng.integers(0, 3, 100)
    got = classification_errors(truth, p)
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth, p.argmax(axis=1)))
    assert got["nll"] == pytest.approx(metrics.log_loss(truth, p, labels=[0, 1, 2]))
    one_hot = np.eye(3)[truth]
    assert got["brier"] == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())


def test_calibration_error_of_an_overconfident_model() -> None:
    """Says 0.95, is right 6 times in 10: off by 0.35."""
    p = np.tile([0.95, 0.05], (10, 1))
    truth = np.array([0] * 6 + [1] * 4)
    assert expected_calibration_error(truth, p) == pytest.approx(0.35)
    assert expected_calibration_error(truth[:6], np.tile([1.0, 0.0], (6, 1))) == 0.0


def test_calibration_error_is_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    p, truth = rng.dirichlet(np.ones(4) * 0.5, 500), rng.integers(0, 4, 500)
    theirs = multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(truth), num_classes=4, n_bins=15
    )
    assert expected_calibration_error(truth, p) == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("n_parts", [1, 2, 30])
def test_crps_of_a_mixture_is_scoringrules(n_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.scores.BLOCK_PAIRS", 1000)  # several blocks
    rng = np.random.default_rng(4)
    truth, means = rng.normal(size=40), rng.normal(size=(n_parts, 40))
    stds = rng.uniform(0.1, 2.0, (n_parts, 40))
    theirs = scoringrules.crps_mixnorm(truth, means.T, stds.T)
    assert mixture_crps(truth, means, stds**2) == pytest.approx(theirs.mean(), rel=1e-10)


def test_quantiles_of_the_right_distribution_are_calibrated_and_others_are_not() -> None:
    """Mean gap of 20,000 uniform ranks: about 0.3/√20,000; a std too small by half is off by
    what SciPy says of the two normals."""
    rng = np.random.default_rng(5)
    truth = rng.normal(size=20_000)
    zeros, ones = np.zeros((1, 20_000)), np.ones((1, 20_000))
    assert quantile_calibration_error(truth, zeros, ones) < 0.01
    levels = np.arange(1, 100) / 100
    expected = np.abs(stats.norm.cdf(stats.norm.ppf(levels) / 2) - levels).mean()
    assert quantile_calibration_error(truth, zeros, ones / 4) == pytest.approx(expected, abs=0.01)
