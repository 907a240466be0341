"""Drawing until it is enough, in blocks, with errors that say what is wrong."""

import time

import numpy as np
import pytest
import torch

from models import MLP, MLPConfig, estimators
from models.draw import Draw
from models.errors import NonFiniteError, NotStochasticError
from models.estimators import estimate
from models.sampling import Plan, make_plan, sample
from models.table import Target

Y = Target("y", mean=50.0, std=7.0)
CLASSES = Target("c", labels=("a", "b", "c"))


def plan(head: str = "regression", p: float = 0.3) -> Plan:
    torch.manual_seed(0)
    outputs = 3 if head == "classification" else 1
    return make_plan(MLP(MLPConfig(4, outputs, (30, 20), p=p, head=head)))


def test_moments_are_those_of_the_samples() -> None:
    x = torch.randn(6, 4)
    drawn = estimate(plan(), Y, x, Draw(n_samples=80, seed=4, keep_samples=True))
    raw = sample(plan(), x, seed=4, n_samples=80).double().numpy()
    np.testing.assert_allclose(drawn.samples, raw[:, :, 0] * 7.0 + 50.0)
    np.testing.assert_allclose(drawn.summary.mean, drawn.samples.mean(axis=0))
    np.testing.assert_allclose(drawn.summary.epistemic_std, drawn.samples.std(axis=0, ddof=1))
    assert (drawn.samples_used, drawn.converged) == (80, True)


ESTIMATORS = ("mc", "stratified", "control_variate", "analytic")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("head", ["regression", "classification"])
def test_blocks_of_rows_change_nothing(
    head: str, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Y if head == "regression" else CLASSES
    x = torch.randn(23, 4)
    draw = Draw(50, 0, estimator, (0.1, 0.9), keep_samples=estimator != "analytic")
    whole = estimate(plan(head), target, x, draw)
    monkeypatch.setattr(estimators, "BLOCK_OUTPUTS", 500)
    parts = estimate(plan(head), target, x, draw)
    for name, value in vars(whole.summary).items():
        np.testing.assert_allclose(getattr(parts.summary, name), value, rtol=1e-5, atol=1e-7)
    if estimator != "analytic":
        np.testing.assert_allclose(parts.samples, whole.samples, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("head", ["regression", "classification"])
def test_tolerance_ends_the_drawing_when_every_row_meets_it(head: str) -> None:
    target = Y if head == "regression" else CLASSES
    x = torch.randn(5, 4)
    loose = estimate(plan(head), target, x, Draw(n_samples=5000)).summary
    tolerance = float(np.max(loose.standard_error)) * 3.0
    drawn = estimate(plan(head), target, x, Draw(n_samples=5000, tolerance=tolerance))
    assert drawn.converged
    assert 30 <= drawn.samples_used < 5000
    assert np.max(drawn.summary.standard_error) <= tolerance
    missed = estimate(plan(head), target, x, Draw(n_samples=40, tolerance=tolerance / 100))
    assert not missed.converged
    assert missed.samples_used == 40


@pytest.mark.parametrize("n_samples", [2, 29, 30])
def test_converged_says_whether_the_standard_errors_meet_the_tolerance(n_samples: int) -> None:
    """However few the samples: 30 are needed only to stop before all are drawn."""
    x = torch.randn(5, 4)
    reached = np.max(estimate(plan(), Y, x, Draw(n_samples)).summary.standard_error)
    met = estimate(plan(), Y, x, Draw(n_samples, tolerance=float(reached) * 1.001))
    assert (met.converged, met.samples_used) == (True, n_samples)
    missed = estimate(plan(), Y, x, Draw(n_samples, tolerance=float(reached) * 0.999))
    assert (missed.converged, missed.samples_used) == (False, n_samples)
    late = estimate(plan(), Y, x, Draw(n_samples, tolerance=1e9, deadline=0.0))
    assert (late.converged, late.samples_used) == (True, 2)


def test_a_deadline_that_has_passed_still_gives_two_samples() -> None:
    drawn = estimate(plan(), Y, torch.randn(5, 4), Draw(n_samples=100, deadline=0.0))
    assert drawn.samples_used == 2
    assert not drawn.converged
    assert np.isfinite(drawn.summary.std).all()


@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate"])
def test_a_deadline_far_away_changes_nothing(estimator: str) -> None:
    x = torch.randn(5, 4)
    far = Draw(100, 2, estimator, deadline=time.monotonic() + 1e6)
    drawn = estimate(plan(), Y, x, far)
    plain = estimate(plan(), Y, x, Draw(100, 2, estimator))
    np.testing.assert_allclose(drawn.summary.mean, plain.summary.mean, rtol=1e-6)
    assert (drawn.samples_used, drawn.converged) == (100, True)


def test_a_network_without_dropout_is_refused() -> None:
    with pytest.raises(NotStochasticError, match="p = 0 everywhere"):
        estimate(plan(p=0.0), Y, torch.randn(1, 4), Draw())


def test_an_output_that_overflows_names_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(7, 4)
    x[5] = 3e38
    monkeypatch.setattr(estimators, "BLOCK_OUTPUTS", 400)
    with pytest.raises(NonFiniteError) as caught:
        estimate(plan(), Y, x, Draw(n_samples=50))
    assert caught.value.rows == (5,)
