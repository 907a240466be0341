"""Summaries of samples; oracles are SciPy's distributions and hand-made samples."""

import numpy as np
import pytest
from scipy import stats

from models.table import Target
from models.uncertainty import (
    entropies,
    join,
    mixture_quantiles,
    summarise,
    summarise_classification,
    summarise_regression,
)

LEVELS = (0.001, 0.05, 0.5, 0.95, 0.999)


def test_moments_of_regression_follow_the_law_of_total_variance() -> None:
    means = np.array([[1.0, 10.0], [3.0, 10.0]])
    variances = np.array([[4.0, 1.0], [6.0, 3.0]])
    summary = summarise_regression(means, variances)
    np.testing.assert_allclose(summary.mean, [2.0, 10.0])
    np.testing.assert_allclose(summary.epistemic_std, [2.0**0.5, 0.0])
    np.testing.assert_allclose(summary.aleatoric_std, [5.0**0.5, 2.0**0.5])
    np.testing.assert_allclose(summary.std, [7.0**0.5, 2.0**0.5])
    np.testing.assert_allclose(summary.standard_error, [1.0, 0.0])
    assert summary.quantiles.shape == (2, 0)


def test_a_std_far_smaller_than_the_mean_survives() -> None:
    """E[x²] - E[x]² would lose every digit here."""
    rng = np.random.default_rng(0)
    means = 1e8 + rng.normal(0.0, 1e-3, (500, 1))
    summary = summarise_regression(means, np.full((500, 1), 1e-12))
    assert summary.epistemic_std[0] == pytest.approx(means.std(ddof=1), rel=1e-9)
    assert 0.9e-3 < summary.epistemic_std[0] < 1.1e-3


def test_quantiles_of_equal_components_are_the_normals() -> None:
    got = mixture_quantiles(np.full((50, 3), [1.0, -5.0, 1e6]), np.full((50, 3), 2.0), LEVELS)
    for row, mean in zip(got, (1.0, -5.0, 1e6), strict=True):
        np.testing.assert_allclose(row, stats.norm(mean, 2.0).ppf(LEVELS), rtol=1e-9)


@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
def test_quantiles_of_a_mixture_invert_its_distribution_function(spread: float) -> None:
    rng = np.random.default_rng(1)
    means = rng.normal(3.0, spread, (200, 4))
    stds = rng.uniform(0.1, 2.0, (200, 4))
    got = mixture_quantiles(means, stds, LEVELS)
    for row in range(4):

        def cdf(x: float, row: int = row) -> float:
            return float(stats.norm(means[:, row], stds[:, row]).cdf(x).mean())

        for level, value in zip(LEVELS, got[row], strict=True):
            assert cdf(value) == pytest.approx(level, abs=1e-9)


def test_quantiles_ascend_with_their_level_and_ignore_the_order_asked() -> None:
    rng = np.random.default_rng(2)
    means, stds = rng.normal(0, 5, (30, 2)), rng.uniform(0.01, 0.1, (30, 2))
    up = mixture_quantiles(means, stds, (0.1, 0.5, 0.9))
    down = mixture_quantiles(means, stds, (0.9, 0.5, 0.1))
    assert (np.diff(up, axis=1) > 0).all()
    np.testing.assert_allclose(up, down[:, ::-1], rtol=1e-9, atol=1e-9)


def test_entropies_are_scipys() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=(7, 3))
    np.testing.assert_allclose(entropies(p), stats.entropy(p, axis=-1))
    assert entropies(np.array([1.0, 0.0])) == 0.0


def test_classification_summary() -> None:
    """Two samples that disagree, one row: hand-computed."""
    p = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    summary = summarise_classification(p)
    np.testing.assert_allclose(summary.probabilities, [[0.55, 0.45]])
    np.testing.assert_allclose(summary.std, [[0.7 / 2**0.5] * 2])
    np.testing.assert_allclose(summary.standard_error, [[0.35, 0.35]])
    np.testing.assert_allclose(summary.entropy, stats.entropy([0.55, 0.45]))
    expected = (stats.entropy([0.9, 0.1]) + stats.entropy([0.2, 0.8])) / 2
    np.testing.assert_allclose(summary.expected_entropy, expected)
    np.testing.assert_allclose(
        summary.entropy, summary.expected_entropy + summary.mutual_information
    )
    np.testing.assert_allclose(summary.variation_ratio, 0.5)


def test_votes_are_counted_by_each_samples_own_best_class() -> None:
    best = np.array([0, 0, 0, 1, 2])
    p = np.eye(3)[best][:, None, :]
    assert summarise_classification(p).variation_ratio[0] == pytest.approx(0.4)


def test_samples_that_agree_have_no_mutual_information() -> None:
    p = np.broadcast_to(np.array([[0.7, 0.2, 0.1]]), (20, 1, 3))
    summary = summarise_classification(p)
    assert summary.mutual_information[0] == pytest.approx(0.0, abs=1e-15)
    assert summary.variation_ratio[0] == 0.0


def test_summarise_speaks_the_targets_unit() -> None:
    target = Target("y", mean=100.0, std=10.0)
    raw = np.array([[[0.0, 0.0]], [[1.0, np.log(4.0)]]])
    summary = summarise(target, raw)
    assert summary.mean[0] == pytest.approx(105.0)
    assert summary.epistemic_std[0] == pytest.approx(10.0 / 2**0.5)
    assert summary.aleatoric_std[0] == pytest.approx((10.0**2 * 2.5) ** 0.5)


def test_parts_join_in_order() -> None:
    rng = np.random.default_rng(3)
    means, variances = rng.normal(size=(10, 5)), rng.uniform(1, 2, (10, 5))
    whole = summarise_regression(means, variances, (0.1, 0.9))
    parts = [
        summarise_regression(means[:, rows], variances[:, rows], (0.1, 0.9))
        for rows in (slice(0, 2), slice(2, 5))
    ]
    for name in ("mean", "epistemic_std", "quantiles", "standard_error"):
        np.testing.assert_allclose(getattr(join(parts), name), getattr(whole, name), rtol=1e-8)
