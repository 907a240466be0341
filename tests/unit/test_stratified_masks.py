"""Stratified masks: each unit meets every stratum once in a design, each sample is textbook."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from models.masks import MaskStream, NoiseSite, StratifiedStream
from tests.statistical.moments import Z_BOUND

KINDS = ("bernoulli", "gaussian", "concrete", "dropconnect")


def take(site: NoiseSite, seed: int = 0, n: int = 100, design: int = 100) -> torch.Tensor:
    (mask,) = StratifiedStream((site,), seed, samples_per_design=design).take(n)
    assert mask is not None
    return mask


@pytest.mark.parametrize(("p", "n"), [(0.1, 100), (0.1, 25), (0.37, 41), (0.5, 2), (0.99, 100)])
def test_each_unit_drops_p_of_a_design_to_the_nearest_whole_samples(p: float, n: int) -> None:
    dropped = (take(NoiseSite("bernoulli", p, 5000), n=n, design=n) == 0).sum(dim=0)
    assert set(dropped.tolist()) <= {int(p * n + 1e-9), -int(-p * n // 1)}
    rest = p * n % 1.0
    z = (dropped.double().mean() - p * n) / max((rest * (1 - rest) / 5000) ** 0.5, 1e-9)
    assert abs(z) < Z_BOUND


@pytest.mark.parametrize("kind", ["gaussian", "concrete"])
def test_continuous_noise_has_one_value_in_each_stratum(kind: str) -> None:
    n = 50
    site = NoiseSite(kind, 0.3, 200)
    # Above these the concrete kind's values are all but equal.
    shares = [0.1, 0.2, 0.28]
    edges = np.quantile(MaskStream((NoiseSite(kind, 0.3, 400_000),), 1).take(1)[0], shares)
    mask = take(site, n=n, design=n).numpy()
    for edge, share in zip(edges, shares, strict=True):
        below = (mask < edge).sum(axis=0)
        assert np.abs(below - share * n).max() < 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_sample_is_a_textbook_one(kind: str) -> None:
    """The 7th sample of 4,000 designs, at 3 units: its distribution, and their independence."""
    site = NoiseSite(kind, 0.3, 3)
    drawn = np.stack([take(site, seed, 8, 20)[7].numpy() for seed in range(4000)])
    textbook = MaskStream((NoiseSite(kind, 0.3, 4000),), 5).take(1)[0][0].numpy()
    for unit in range(3):
        if kind in ("gaussian", "concrete"):
            assert stats.ks_2samp(drawn[:, unit], textbook).pvalue > 2e-5
        else:
            z = ((drawn[:, unit] == 0).mean() - 0.3) / (0.3 * 0.7 / 4000) ** 0.5
            assert abs(z) < Z_BOUND
    correlations = np.corrcoef(drawn.T)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() * 4000**0.5 < Z_BOUND


@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_how_they_are_cut(kind: str) -> None:
    sites = (NoiseSite(kind, 0.1, 33), NoiseSite(kind, 0.0, 7), NoiseSite(kind, 0.5, 64))
    whole = StratifiedStream(sites, 3, samples_per_design=40).take(100)
    stream = StratifiedStream(sites, 3, samples_per_design=40)
    parts = [stream.take(n) for n in (1, 2, 50, 47)]
    assert whole[1] is None
    for site in (0, 2):
        assert torch.equal(whole[site], torch.cat([part[site] for part in parts]))


def test_designs_seeds_sizes_and_layers_differ() -> None:
    site = NoiseSite("bernoulli", 0.5, 64)
    two = take(site, n=80, design=40)
    assert not torch.equal(two[:40], two[40:])
    assert not torch.equal(take(site, 0), take(site, 1))
    assert not torch.equal(take(site, n=40, design=40), take(site, n=40, design=80))
    first, second = StratifiedStream((site, site), 0, samples_per_design=100).take(100)
    assert not torch.equal(first, second)


def test_moments_of_the_noise() -> None:
    for kind in KINDS:
        for p in (0.05, 0.5, 0.9):
            site = NoiseSite(kind, p, 1_000_000)
            drawn = MaskStream((site,), 7).take(1)[0].double()
            mean, variance = site.moments
            assert abs(drawn.mean() - mean) < Z_BOUND * (variance / 1e6) ** 0.5
            spread = (drawn - mean).square().var() / 1e6
            assert abs((drawn - mean).square().mean() - variance) <= Z_BOUND * spread**0.5
    assert NoiseSite("gaussian", 1.0, 1).moments == (0.0, 0.0)
    assert NoiseSite("gaussian", 0.0, 1).moments == (1.0, 0.0)


def test_the_bits_are_those_of_every_release_and_machine() -> None:
    """Whoever stored a seed counts on these masks: this may never change."""
    mask = take(NoiseSite("bernoulli", 0.3, 1000), seed=42)
    digest = hashlib.sha256(mask.numpy().astype("<f4").tobytes()).hexdigest()
    assert digest == "185dbf6c9dc1efc7ea42005d992cb1c764e06e699529b60b453fbbe6d8882314"
