"""The first-order expansion: its slopes against autograd, its propagated means against sums."""

import pytest
import torch

from models import MLP, MLPConfig
from models.linearisation import linearise
from models.masks import MaskStream
from models.sampling import draw_block, make_plan, make_prefix, sample

KINDS = ("bernoulli", "gaussian", "concrete", "dropconnect")
X = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


def network(kind: str, activation: str = "identity", head: str = "classification") -> MLP:
    torch.manual_seed(0)
    return MLP(MLPConfig(5, 2, (12, 9), activation, kind, (0.2, 0.4), 0.1, head))


@pytest.mark.parametrize("kind", KINDS)
def test_the_linear_part_is_the_gradient_at_the_mean_noise(kind: str) -> None:
    """Of a network without activations, where slopes are the same everywhere: for tiny
    deviations of one site's noise from its mean the output follows them."""
    plan = make_plan(network(kind))
    prefix = make_prefix(plan, X)
    expansion = linearise(plan, prefix, 2)
    at_mean = [torch.full((1, site.size), site.moments[0]) for site in plan.sites]
    for moved in range(3):
        masks = [mask.clone() for mask in at_mean]
        masks[moved] += 1e-3 * torch.randn(masks[moved].shape)
        out = torch.empty(1, 3, 2)
        draw_block(plan, prefix, masks, out)
        torch.testing.assert_close(
            expansion.linear_part(masks)[0], out[0] - expansion.mean, rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("kind", KINDS)
def test_its_covariance_is_that_of_its_samples(kind: str) -> None:
    plan = make_plan(network(kind, "relu"))
    expansion = linearise(plan, make_prefix(plan, X), 2)
    n = 20_000
    drawn = expansion.linear_part(MaskStream(plan.sites, 1).take(n)).double()
    products = torch.einsum("sno,snp->snop", drawn, drawn)
    z = (products.mean(0) - torch.from_numpy(expansion.covariance)) / (products.var(0) / n).sqrt()
    assert z.abs().max() < 4.27
    assert (drawn.mean(0) / (drawn.var(0) / n).sqrt()).abs().max() < 4.27


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_propagated_means_are_those_of_many_samples(activation: str) -> None:
    torch.manual_seed(0)
    net = MLP(MLPConfig(5, 1, (300, 200), activation, "bernoulli", 0.3))
    with torch.no_grad():
        net.linears[1].weight *= 2.0
    plan = make_plan(net)
    expansion = linearise(plan, make_prefix(plan, X), 1)
    drawn = sample(plan, X, seed=1, n_samples=20_000)[:, :, 0]
    assert ((expansion.mean[:, 0] - drawn.mean(0)).abs() < 0.03 * drawn.std(0)).all()


def test_without_the_last_site_nothing_of_it_is_left() -> None:
    plan = make_plan(network("bernoulli", "relu"))
    expansion = linearise(plan, make_prefix(plan, X), 2)
    assert [effect.index for effect in expansion.effects] == [0, 1, 2]
    assert [effect.index for effect in expansion.without_last_site().effects] == [0, 1]


def test_sites_that_drop_nothing_or_everything_have_no_effect() -> None:
    torch.manual_seed(0)
    plan = make_plan(MLP(MLPConfig(5, 1, (12, 9), p=(0.0, 1.0))))
    expansion = linearise(plan, make_prefix(plan, X), 1)
    assert (expansion.covariance == 0.0).all()
    drawn = sample(plan, X, seed=1, n_samples=3)[:, :, :1]
    torch.testing.assert_close(expansion.mean[None, :, :1].expand(3, -1, -1), drawn)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_slopes_are_those_of_averages_over_the_noise(activation: str) -> None:
    """By Stein's identity, of Gaussian noise: E[f · z] = E[df/dz] for each unit's deviate z, as
    estimated from many samples of the last layer's mean."""
    torch.manual_seed(0)
    net = MLP(MLPConfig(5, 1, (80, 60), activation, "gaussian", (0.2, 0.0)))
    with torch.no_grad():
        net.linears[1].weight *= 2.0
    plan = make_plan(net)
    expansion = linearise(plan, make_prefix(plan, X), 1)
    n = 40_000
    noise = MaskStream(plan.sites, 1).take(n)[1].double()
    outputs = sample(plan, X, seed=1, n_samples=n)[:, :, 0].double()
    mean, variance = plan.sites[1].moments
    deviate = (noise - mean) / variance**0.5
    products = torch.einsum("tn,tu->ntu", outputs - outputs.mean(0), deviate)
    (effect,) = expansion.effects
    slopes = (effect.slopes @ plan.weights[1][:, :60].t())[:, 0] * effect.activations
    z = (products.mean(1) - slopes.double() * variance**0.5) / (products.var(1) / n).sqrt()
    assert z.abs().max() < 5.0
