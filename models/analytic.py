"""Moments without sampling: the noise propagated layer by layer.

Means go through each activation as those of Gaussian inputs, the spread of the outputs is that
of the linearisation in the noise (`models.linearisation`). There is a bias that no seed
reveals: it is small where single units matter little, and measured for each version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.linearisation import linearise
from models.mlp import LOG_VARIANCE_RANGE
from models.sampling import Plan, make_prefix
from models.table import Target, softmax
from models.uncertainty import (
    RegressionSummary,
    Summary,
    check_finite,
    mixture_quantiles,
    summarise_classification,
)

Array = np.ndarray

# Points of the integral over Gaussian logits.
N_POINTS = 256


def summarise_analytically(
    plan: Plan, target: Target, x: Tensor, quantiles: Sequence[float] = (), first_row: int = 0
) -> Summary:
    """The summary of the rows x (N, D); its standard errors are 0, the bias aside.

    Raises:
        NonFiniteError: a moment is not a finite number; rows are counted from `first_row`.
    """
    is_regression = target.task == "regression"
    prefix = make_prefix(plan, x)
    expansion = linearise(plan, prefix, 2 if is_regression else plan.config.out_features)
    mean = expansion.mean.double().cpu().numpy()
    covariance = expansion.covariance_with_interactions
    finite = np.isfinite(mean).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2))
    check_finite(finite, first_row)
    if is_regression:
        return _summarise_values(target, mean, covariance, quantiles)
    return summarise_classification(softmax(mean + _normal_points(covariance)), are_draws=False)


def _summarise_values(
    target: Target, mean: Array, covariance: Array, quantiles: Sequence[float]
) -> RegressionSummary:
    epistemic = covariance[:, 0, 0]
    noise = _mean_exponential(mean[:, 1], covariance[:, 1, 1], LOG_VARIANCE_RANGE[1])
    centre = mean[:, 0] * target.std + target.mean
    spread = np.sqrt(epistemic + noise) * target.std
    return RegressionSummary(
        mean=centre,
        epistemic_std=np.sqrt(epistemic) * target.std,
        aleatoric_std=np.sqrt(noise) * target.std,
        quantiles=mixture_quantiles(centre[None], spread[None], quantiles),
        standard_error=np.zeros_like(centre),
    )


def _mean_exponential(mean: Array, variance: Array, most: float) -> Array:
    """Of exp(min(Z, most)) for Gaussians Z, (N,)."""
    std = np.sqrt(np.maximum(variance, 1e-300))
    bound = (most - mean) / std
    tail = std - bound
    # mean + variance / 2 + log Φ(-tail); where the tail is long its square cancels the variance.
    scaled = torch.special.erfcx(torch.from_numpy(np.maximum(tail, 0.0) / math.sqrt(2.0))).numpy()
    below = np.where(
        tail > 0.0,
        most - 0.5 * bound**2 + np.log(0.5 * scaled),
        mean + 0.5 * variance + _log_normal_cdf(-tail),
    )
    above = most + _log_normal_cdf(-bound)
    return np.asarray(np.exp(below) + np.exp(above))


def _log_normal_cdf(z: Array) -> Array:
    return np.asarray(torch.special.log_ndtr(torch.from_numpy(z)).numpy())


def _normal_points(covariance: Array) -> Array:
    """Points (P, N, C) that stand for N Gaussians of mean 0 with these covariances (N, C, C)."""
    engine = torch.quasirandom.SobolEngine(covariance.shape[1])  # type: ignore[no-untyped-call]
    sobol = engine.draw(N_POINTS // 2 + 1)[1:].double()
    standard = torch.special.ndtri(sobol.clamp(1e-6, 1.0 - 1e-6)).numpy()
    standard = np.concatenate([standard, -standard])
    standard /= standard.std(axis=0)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    return np.asarray(np.einsum("pk,nck->pnc", standard, root))
