"""The fast path's distribution: against closed forms of a linear network, and against the
textbook's passes in train mode; each planted fault is noticed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models import MLP, MLPConfig
from models.masks import MaskStream
from models.sampling import make_plan, predict, sample
from tests.faults import plant
from tests.statistical.moments import Z_BOUND, bernoulli_noise
from tests.statistical.textbook import passes

T = 40_000


def linear_network(kind: str, p: float) -> MLP:
    """One hidden layer without activation: output = Σ_j w_j m_j h_j + b, moments exact."""
    torch.manual_seed(0)
    return MLP(MLPConfig(5, 1, (12,), "identity", kind, p, head="classification"))


def check_linear(kind: str, p: float) -> None:
    """Mean and variance of each row against the closed form.

    With independent noise of mean 1, variance v and fourth central moment k on the terms
    c_j = w_j h_j: variance Σ c² v, and fourth central moment 3 (Σ c² v)² + Σ c⁴ (k - 3v²).
    """
    net = linear_network(kind, p)
    plan = make_plan(net)
    x = torch.randn(6, 5)
    with torch.no_grad():
        hidden = net.linears[0](x).double()
        terms = hidden * net.linears[1].weight.double()
    _, v, k = bernoulli_noise(p)
    if kind == "gaussian":
        k = 3.0 * v**2
    variance = (terms.square() * v).sum(dim=1)
    fourth = 3.0 * variance.square() + (terms**4 * (k - 3.0 * v**2)).sum(dim=1)
    drawn = sample(plan, x, seed=1, n_samples=T)[:, :, 0].double()
    expected = predict(plan, x)[:, 0].double()
    z_mean = (drawn.mean(dim=0) - expected) / (variance / T).sqrt()
    squared = (drawn - expected).square().mean(dim=0)
    z_variance = (squared - variance) / ((fourth - variance.square()) / T).sqrt()
    assert z_mean.abs().max() < Z_BOUND
    assert z_variance.abs().max() < Z_BOUND


@pytest.mark.parametrize("p", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "dropconnect"])
def test_a_linear_network_has_its_exact_moments(kind: str, p: float) -> None:
    check_linear(kind, p)


def _never(take: Callable[..., list]) -> Callable[..., list]:
    return lambda self, n: [None if m is None else torch.ones_like(m) for m in take(self, n)]


def _unscaled(take: Callable[..., list]) -> Callable[..., list]:
    return lambda self, n: [None if m is None else (m != 0).float() for m in take(self, n)]


def _swapped(take: Callable[..., list]) -> Callable[..., list]:
    """p taken for the probability of keeping, scaled accordingly; it shows in a mask's scale."""

    def swap(mask: Tensor) -> Tensor:
        p = 1.0 - 1.0 / mask.max()
        return (mask == 0).float() / p

    return lambda self, n: [None if m is None else swap(m) for m in take(self, n)]


@pytest.mark.parametrize("fault", [_never, _unscaled, _swapped])
@pytest.mark.parametrize("kind", ["bernoulli", "dropconnect"])
def test_the_check_notices_each_planted_fault(
    kind: str, fault: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, MaskStream, fault)
    with pytest.raises(AssertionError):
        check_linear(kind, 0.3)


@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "concrete", "dropconnect"])
def test_deep_networks_agree_with_textbook_passes(kind: str, head: str) -> None:
    """Means within their joint standard error, variances within theirs (estimated from the
    fourth moment of the pooled samples), over rows and outputs."""
    torch.manual_seed(1)
    outputs = 3 if head == "classification" else 1
    net = MLP(MLPConfig(5, outputs, (24, 16), "relu", kind, (0.1, 0.4), 0.1, head))
    x = torch.randn(4, 5)
    textbook = passes(net, x, 8000).double()
    fast = sample(make_plan(net), x, seed=1, n_samples=8000)[:, :, :outputs].double()
    z_mean = (fast.mean(dim=0) - textbook.mean(dim=0)) / (
        (fast.var(dim=0) + textbook.var(dim=0)) / 8000
    ).sqrt()
    assert z_mean.abs().max() < Z_BOUND
    spreads = []
    for drawn in (fast, textbook):
        squared = (drawn - drawn.mean(dim=0)).square()
        spreads.append((squared.mean(dim=0), squared.var(dim=0) / 8000))
    (a, a_error), (b, b_error) = spreads
    assert ((a - b) / (a_error + b_error).sqrt()).abs().max() < Z_BOUND


def test_rows_share_their_masks_so_that_a_draw_is_a_function() -> None:
    """Two equal rows of a request agree in every sample; in `train()` they would not."""
    torch.manual_seed(0)
    net = MLP(MLPConfig(5, 1, (12,), p=0.5))
    x = torch.randn(1, 5).expand(2, 5).contiguous()
    drawn = sample(make_plan(net), x, seed=0, n_samples=50)[:, :, 0]
    np.testing.assert_array_equal(drawn[:, 0].numpy(), drawn[:, 1].numpy())
    assert drawn[:, 0].unique().numel() > 10
