"""How far a sample is from what theory says, in standard errors.

Every statistical test fixes its seed, so it passes always or never; the bound says how
likely it was to fail when it was written.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Two-sided false-alarm rate 2e-5 for a normal deviate.
Z_BOUND = 4.27


def z_of_mean(sample: Tensor, mean: float, variance: float) -> float:
    """Of independent draws whose mean and variance are known."""
    return float((sample.double().mean() - mean) / (variance / sample.numel()) ** 0.5)


def z_of_variance(sample: Tensor, mean: float, variance: float, fourth: float) -> float:
    """Of the mean squared deviation from the known mean; `fourth` is the exact fourth
    central moment, so that the spread of squared deviations is fourth - variance²."""
    squared = (sample.double() - mean).square()
    spread = (fourth - variance**2) / sample.numel()
    if spread == 0.0:
        return 0.0 if torch.allclose(squared.mean(), torch.tensor(variance).double()) else 1e9
    return float((squared.mean() - variance) / spread**0.5)


def bernoulli_noise(p: float) -> tuple[float, float, float]:
    """Mean, variance and fourth central moment of an inverted mask: 1/(1-p) or 0."""
    kept = 1.0 / (1.0 - p)
    return 1.0, p / (1.0 - p), p + (1.0 - p) * (kept - 1.0) ** 4
