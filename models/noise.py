"""The noise variance of a regression network, settled on rows that did not train it.

In training the residuals hold the masks' variance too, and less than the error on new rows:
the network's own noise variance has the right shape at best, never the right size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.mlp import LOG_VARIANCE_RANGE, MLP
from models.scores import mixture_nll

Array = np.ndarray


@dataclass(frozen=True)
class Noise:
    """The network's noise variance times `scale`, or `scale` itself, and the mean negative
    log-likelihood (nats, standardised target) of the rows it was fitted to."""

    scale: float
    is_constant: bool
    nll: float


def fit_noise(raw: Array, truth: Array) -> Noise:
    """The noise that makes N standardised targets likeliest under T Gaussians each, from raw
    outputs (T, N, 2): means and log variances."""
    means, variances = raw[..., 0], np.exp(raw[..., 1])
    fits = []
    for is_constant, shape in ((False, variances), (True, np.ones_like(variances[:1]))):
        exponents = np.linspace(-5.0, 2.0, 15)
        for width in (0.5, 0.05, 0.0):
            scales = 10.0**exponents
            losses = [mixture_nll(truth, means, scale * shape) for scale in scales]
            best = int(np.argmin(losses))
            fits.append(Noise(float(scales[best]), is_constant, float(losses[best])))
            exponents = exponents[best] + np.linspace(-width, width, 11)
    return min(fits, key=lambda noise: noise.nll)


@torch.no_grad()
def set_noise(network: MLP, noise: Noise) -> None:
    """Writes the noise into the last layer, so that a network carries it wherever it goes."""
    last = network.linears[-1]
    assert isinstance(last, torch.nn.Linear)
    n_outputs = network.config.out_features
    if noise.is_constant:
        last.weight[n_outputs:] = 0.0
        last.bias[n_outputs:] = float(np.clip(np.log(noise.scale), *LOG_VARIANCE_RANGE))
    else:
        last.bias[n_outputs:] += float(np.log(noise.scale))
