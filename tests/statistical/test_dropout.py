"""The layers' noise against closed forms, and against torch.nn.Dropout."""

import math

import pytest
import torch
from scipy import integrate, stats

from models import ConcreteDropout, DropConnectLinear, Dropout, GaussianDropout
from tests.statistical.moments import Z_BOUND, bernoulli_noise, z_of_mean, z_of_variance
from tests.statistical.planted import FAULTS

N = 400_000


def check_bernoulli(layer: torch.nn.Module, p: float) -> None:
    """Mean, variance and fraction of zeros of the layer's noise."""
    layer.train()
    noise = layer(torch.full((N,), 2.0)) / 2.0
    mean, variance, fourth = bernoulli_noise(p)
    assert abs(z_of_mean(noise, mean, variance)) < Z_BOUND
    assert abs(z_of_variance(noise, mean, variance, fourth)) < Z_BOUND
    assert abs(z_of_mean((noise == 0.0).float(), p, p * (1.0 - p))) < Z_BOUND


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.8])
def test_dropout_has_the_moments_of_inverted_dropout(p: float) -> None:
    torch.manual_seed(1)
    check_bernoulli(Dropout(p), p)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("fault", FAULTS)
def test_that_check_notices_each_planted_fault(fault: type[Dropout], p: float) -> None:
    torch.manual_seed(1)
    with pytest.raises(AssertionError):
        check_bernoulli(fault(p), p)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_is_distributed_as_torch_dropout(p: float) -> None:
    """Two samples of how many of 50 units a call drops, compared by chi-square."""
    torch.manual_seed(2)
    ours, torchs = Dropout(p), torch.nn.Dropout(p)
    counts = [
        torch.bincount((layer(torch.ones(20_000, 50)) == 0).sum(dim=1), minlength=51)
        for layer in (ours, torchs)
    ]
    table = torch.stack(counts)
    table = table[:, table.sum(dim=0) >= 10]
    assert stats.chi2_contingency(table.numpy()).pvalue > 2e-5


def test_units_are_dropped_independently() -> None:
    """Neighbours in a row, and in a column, are uncorrelated."""
    torch.manual_seed(3)
    dropped = (Dropout(0.3)(torch.ones(1000, 1000)) == 0).double() - 0.3
    for product in (dropped[1:] * dropped[:-1], dropped[:, 1:] * dropped[:, :-1]):
        assert abs(z_of_mean(product, 0.0, 0.21**2)) < Z_BOUND


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_gaussian_dropout_has_the_moments_of_its_normal(p: float) -> None:
    torch.manual_seed(4)
    noise = GaussianDropout(p).train()(torch.full((N,), 3.0)) / 3.0
    variance = p / (1.0 - p)
    assert abs(z_of_mean(noise, 1.0, variance)) < Z_BOUND
    assert abs(z_of_variance(noise, 1.0, variance, 3.0 * variance**2)) < Z_BOUND
    assert (noise != 0.0).all()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_concrete_dropout_has_the_moments_of_the_relaxed_mask(p: float) -> None:
    """Moments by numerical integration over the uniform that drives the mask (Gal et al.
    2017, equation 5)."""
    temperature = 0.1

    def noise_at(u: float) -> float:
        logit = math.log(p / (1.0 - p)) + math.log(u / (1.0 - u))
        return 1.0 / (1.0 + math.exp(min(logit / temperature, 700.0))) / (1.0 - p)

    def moment(power: int, around: float) -> float:
        value, _ = integrate.quad(
            lambda u: (noise_at(u) - around) ** power, 0.0, 1.0, points=[1.0 - p], limit=400
        )
        return value

    mean = moment(1, 0.0)
    variance, fourth = moment(2, mean), moment(4, mean)
    torch.manual_seed(5)
    with torch.no_grad():
        noise = ConcreteDropout(p, temperature).train()(torch.ones(N))
    assert abs(z_of_mean(noise, mean, variance)) < Z_BOUND
    assert abs(z_of_variance(noise, mean, variance, fourth)) < Z_BOUND


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropconnect_drops_weights_like_inverted_dropout_drops_units(p: float) -> None:
    torch.manual_seed(6)
    layer = DropConnectLinear(600, 600, p, bias=False).train()
    torch.nn.init.ones_(layer.weight)
    noise = layer(torch.eye(600)).detach()
    mean, variance, fourth = bernoulli_noise(p)
    assert abs(z_of_mean(noise, mean, variance)) < Z_BOUND
    assert abs(z_of_variance(noise, mean, variance, fourth)) < Z_BOUND
    assert abs(z_of_mean((noise == 0.0).float(), p, p * (1.0 - p))) < Z_BOUND
