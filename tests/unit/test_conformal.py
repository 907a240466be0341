"""Scores of prediction sets against a reference written class by class, and the uniforms."""

import numpy as np
import pytest
import torch

from models.conformal import (
    RAPS_FREE,
    RAPS_PENALTY,
    interval_scale,
    row_uniforms,
    scores_of_labels,
    scores_of_truth,
)
from models.uncertainty import ClassificationSummary, RegressionSummary


def reference(kind: str, p: list[float], label: int, u: float) -> float:
    """Romano et al. 2020, equation 5; Angelopoulos et al. 2021, equation 4: in words."""
    ahead = [other for other, value in enumerate(p) if value > p[label]]
    score = sum(p[other] for other in ahead) + u * p[label]
    if kind == "raps":
        rank = len(ahead) + 1
        score += RAPS_PENALTY * max(0, rank - RAPS_FREE)
    return score


@pytest.mark.parametrize("kind", ["aps", "raps"])
def test_sets_scores_are_those_of_the_papers(kind: str) -> None:
    rng = np.random.default_rng(0)
    p, u = rng.dirichlet(np.ones(6), 50), rng.random(50)
    got = scores_of_labels(kind, p, u)
    expected = [[reference(kind, p[i], j, u[i]) for j in range(6)] for i in range(50)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_the_score_of_a_row_is_that_of_its_true_class() -> None:
    rng = np.random.default_rng(1)
    p, u, truth = rng.dirichlet(np.ones(3), 9), rng.random(9), rng.integers(0, 3, 9)
    summary = ClassificationSummary(p, p, p, p[:, 0], p[:, 0], p[:, 0])
    for kind in ("lac", "aps", "raps"):
        got = scores_of_truth(kind, summary, truth, u)
        assert got.tolist() == [scores_of_labels(kind, p, u)[i, truth[i]] for i in range(9)]
    np.testing.assert_allclose(scores_of_labels("lac", p, u), 1.0 - p)


def test_the_score_of_a_value_is_its_residual_in_units_of_the_scale() -> None:
    mean, std = np.array([1.0, 2.0]), np.array([0.5, 4.0])
    summary = RegressionSummary(mean, np.zeros(2), std, np.empty((2, 0)), mean)
    truth = np.array([2.0, -2.0])
    assert scores_of_truth("scaled", summary, truth, truth).tolist() == [2.0, 1.0]
    assert scores_of_truth("absolute", summary, truth, truth).tolist() == [1.0, 4.0]
    assert interval_scale("absolute", summary).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["aps", "raps"])
def test_where_the_probabilities_are_right_aps_scores_are_uniform(kind: str) -> None:
    """Of the randomised APS score that is its definition; the penalty shifts that of RAPS."""
    rng = np.random.default_rng(2)
    n = 20_000
    p = rng.dirichlet(np.ones(4), n)
    truth = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    scores = scores_of_labels(kind, p, rng.random(n))[np.arange(n), truth]
    # The mean of n uniforms has standard error 1/√(12 n).
    z = (scores.mean() - 0.5) * np.sqrt(12 * n)
    assert (abs(z) < 4.27) == (kind == "aps")


def test_a_rows_number_depends_on_the_row_and_the_seed_alone() -> None:
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    together = row_uniforms(x, 3)
    assert [row_uniforms(x[i : i + 1], 3)[0] for i in range(50)] == together.tolist()
    assert row_uniforms(x.flip(0), 3).tolist() == together[::-1].tolist()
    assert not np.isin(row_uniforms(x, 4), together).any()
    assert row_uniforms(torch.tensor([[0.0]]), 0) == row_uniforms(torch.tensor([[-0.0]]), 0)
    assert row_uniforms(x.t().contiguous().t(), 3).tolist() == together.tolist()


def test_the_numbers_are_uniform() -> None:
    """Mean, and counts in ten equal bins (chi-square of 9 degrees: below 41.5 but for 4e-6)."""
    x = torch.arange(20_000.0).unsqueeze(1)
    for seed in (0, 1, 2**63 - 1):
        uniforms = row_uniforms(x, seed)
        assert uniforms.min() >= 0.0
        assert uniforms.max() < 1.0
        assert abs(uniforms.mean() - 0.5) * np.sqrt(12 * 20_000) < 4.27
        counts = np.histogram(uniforms, 10, (0.0, 1.0))[0]
        assert ((counts - 2000) ** 2 / 2000).sum() < 41.5
