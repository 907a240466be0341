"""Every estimator, for every kind of dropout, against brute force; planted faults are noticed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import models.estimators
import models.reduced
import models.sampling
from models.draw import Draw
from models.estimators import estimate
from models.masks import StratifiedStream
from tests.faults import Take, plant
from tests.statistical.brute_force import (
    KINDS,
    LEVELS,
    N_SEEDS,
    NARROW,
    WIDE,
    T,
    X,
    brute_figures,
    figures,
    plan_of,
    target_of,
)
from tests.statistical.moments import Z_BOUND


def check_against_brute_force(
    estimator: str, kind: str, head: str, hidden: tuple[int, ...] = NARROW
) -> None:
    """The mean over seeds of every figure, within its standard error and the bias that T
    samples leave in what is no plain mean: a fifth of one draw's own deviation. Quantiles take
    the last layer's noise for Gaussian: within 1 % of the predictive std, in layers this narrow."""
    plan, truth = plan_of(kind, head, hidden), brute_figures(kind, head, hidden)
    found = np.array(
        [
            figures(estimate(plan, target_of(head), X, Draw(T, seed, estimator, LEVELS)).summary)
            for seed in range(N_SEEDS)
        ]
    )
    spread = found.std(axis=0, ddof=1)
    error = np.hypot(spread / N_SEEDS**0.5, truth[1])
    n_means = 1 if head == "regression" else 3
    bias = np.where(np.arange(found.shape[2]) < n_means, 0.0, 0.2 * spread)
    if head == "regression" and hidden == WIDE:
        # Both lean on what holds in the Gaussian limit: the std by up to 2 %.
        bias[:, 0] = 0.2 * spread[:, 0]
        bias[:, 1] = 0.04 * truth[0][:, 1]
    if head == "regression":
        total = np.sqrt(truth[0][:, 1] + truth[0][:, 2])
        bias[:, 3:] = np.maximum(bias[:, 3:], 0.01 * total[:, None])
    assert (np.abs(found.mean(axis=0) - truth[0]) < Z_BOUND * error + bias).all()


@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate"])
def test_every_figure_agrees_with_brute_force(estimator: str, kind: str, head: str) -> None:
    check_against_brute_force(estimator, kind, head)


@pytest.mark.parametrize("estimator", ["stratified", "control_variate"])
@pytest.mark.parametrize("hidden", [WIDE, (48, 40, 32)])
def test_they_agree_in_wide_and_in_deep_networks(estimator: str, hidden: tuple[int, ...]) -> None:
    check_against_brute_force(estimator, "bernoulli", "regression", hidden)


def _never(take: Take) -> Take:
    return lambda self, n: [None if m is None else torch.ones_like(m) for m in take(self, n)]


def _unscaled(take: Take) -> Take:
    return lambda self, n: [None if m is None else (m != 0).float() for m in take(self, n)]


def _swapped(take: Take) -> Take:
    return lambda self, n: [None if m is None else (m == 0).float() / 0.2 for m in take(self, n)]


def _reused(take: Take) -> Take:
    """The first hidden layer's mask for all others, too."""

    def faulty(self: StratifiedStream, n: int) -> list:
        inputs, first, *others = take(self, n)
        return [inputs, first, *(first[:, : other.shape[1]] for other in others)]

    return faulty


@pytest.mark.parametrize("fault", [_never, _unscaled, _swapped, _reused])
@pytest.mark.parametrize("estimator", ["stratified", "control_variate"])
def test_the_check_notices_faults_of_the_masks(
    estimator: str, fault: Callable[[Take], Take], monkeypatch: pytest.MonkeyPatch
) -> None:
    brute_figures("bernoulli", "classification", NARROW)
    plant(monkeypatch, StratifiedStream, fault)
    with pytest.raises(AssertionError):
        check_against_brute_force(estimator, "bernoulli", "classification")


@pytest.mark.parametrize("fault", [_never, _unscaled, _swapped, _reused])
@pytest.mark.parametrize("estimator", ["stratified", "control_variate"])
def test_the_check_notices_them_in_regression(
    estimator: str, fault: Callable[[Take], Take], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = (48, 40, 32)
    brute_figures("bernoulli", "regression", deep)
    plant(monkeypatch, StratifiedStream, fault)
    with pytest.raises(AssertionError):
        check_against_brute_force(estimator, "bernoulli", "regression", deep)


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_notices_that_the_last_layers_variance_is_forgotten(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brute_figures(kind, "regression", NARROW)

    def faulty(*drawn: object) -> None:
        models.sampling.draw_block(*drawn)
        conditional = drawn[-1]
        conditional[..., 1] = 0.0

    monkeypatch.setattr(models.reduced, "draw_block", faulty)
    # What is small goes another way, to the same bits (tests/unit/test_kernel.py).
    monkeypatch.setattr(models.estimators, "summarise_at_once", lambda *_: None)
    for estimator in ("stratified", "control_variate"):
        with pytest.raises(AssertionError):
            check_against_brute_force(estimator, kind, "regression")
