"""Noise that is settled on rows: found where it is known, and written where it is read."""

import numpy as np
import pytest
import torch

from models import MLP, MLPConfig
from models.noise import Noise, fit_noise, set_noise


def raw_outputs(n: int, log_variance: np.ndarray) -> np.ndarray:
    """Two samples (2, n, 2) that agree on a mean of zero."""
    return np.stack([np.stack([np.zeros(n), log_variance], axis=1)] * 2)


def test_a_shape_that_is_right_is_scaled() -> None:
    """Residuals of variance 4 e^s where the network says e^s: z < 4.27 of the scale's error,
    sqrt(2/n) relative, and half a step of the finest grid."""
    rng = np.random.default_rng(0)
    log_variance = rng.uniform(-2, 2, 4000)
    truth = 2 * np.exp(0.5 * log_variance) * rng.normal(size=4000)
    noise = fit_noise(raw_outputs(4000, log_variance), truth)
    assert not noise.is_constant
    assert noise.scale == pytest.approx(4.0, rel=4.27 * np.sqrt(2 / 4000) + 0.012)
    entropy = 0.5 * np.log(2 * np.pi * np.e * 4) + 0.5 * log_variance.mean()
    assert noise.nll == pytest.approx(entropy, abs=4.27 * np.sqrt(0.5 / 4000))


def test_a_shape_that_is_wrong_gives_way_to_a_constant() -> None:
    rng = np.random.default_rng(0)
    noise = fit_noise(raw_outputs(4000, rng.uniform(-2, 2, 4000)), 0.3 * rng.normal(size=4000))
    assert noise.is_constant
    assert noise.scale == pytest.approx(0.09, rel=4.27 * np.sqrt(2 / 4000) + 0.012)


def test_noise_between_samples_is_not_counted_twice() -> None:
    """Means that spread with variance 1 explain half of residuals of variance 2."""
    rng = np.random.default_rng(0)
    raw = np.zeros((400, 2000, 2))
    raw[..., 0] = rng.normal(size=(400, 1))
    noise = fit_noise(raw, np.sqrt(2) * rng.normal(size=2000))
    assert noise.scale == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("is_constant", [False, True])
def test_the_network_carries_it(is_constant: bool) -> None:
    network, x = MLP(MLPConfig(3, 1, (8,))).eval(), torch.randn(5, 3)
    with torch.no_grad():
        before = network.raw(x)
        set_noise(network, Noise(0.25, is_constant, 0.0))
        after = network.raw(x)
    assert torch.equal(after[:, 0], before[:, 0])
    expected = np.log(0.25) + (0.0 if is_constant else before[:, 1])
    torch.testing.assert_close(after[:, 1], torch.as_tensor(expected).float().expand(5))
