"""How good predictions were: errors in the target's units, likelihoods in nats."""

from __future__ import annotations

import numpy as np
import torch

from models.uncertainty import entropies

Array = np.ndarray

# Levels at which a regression's quantiles are compared with how often values lie below.
LEVELS = np.arange(1, 100) / 100.0
# Numbers held at once while pairs of a mixture's parts are compared.
BLOCK_PAIRS = 2**22


def regression_errors(truth: Array, prediction: Array) -> dict[str, float]:
    """Root mean squared error, mean absolute error, and R² of (N,) predictions."""
    residual = prediction - truth
    spread = float(((truth - truth.mean()) ** 2).mean())
    squared = float((residual**2).mean())
    return {
        "rmse": squared**0.5,
        "mae": float(np.abs(residual).mean()),
        "r2": 1.0 - squared / spread if spread > 0.0 else 0.0,
    }


def mixture_nll(truth: Array, means: Array, variances: Array) -> float:
    """Mean negative log density of (N,) values under N mixtures of T Gaussians (T, N), nats."""
    logs = -0.5 * (np.log(2.0 * np.pi * variances) + (truth - means) ** 2 / variances)
    highest = logs.max(axis=0)
    return float(-(highest + np.log(np.exp(logs - highest).mean(axis=0))).mean())


def mixture_crps(truth: Array, means: Array, variances: Array) -> float:
    """Mean continuous ranked probability score of N mixtures of T Gaussians (T, N), in the
    target's units (Grimit et al. 2006, equation 5)."""
    n_parts, n_rows = means.shape
    score = _absolute_mean(truth - means, variances).mean(axis=0)
    first, second = np.triu_indices(n_parts, 1)
    step = max(1, BLOCK_PAIRS // max(1, len(first)))
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        m, v = means[:, rows], variances[:, rows]
        # Each pair stands for itself and its mirror, each part beside for itself.
        pairs = _absolute_mean(m[first] - m[second], v[first] + v[second]).sum(axis=0)
        alone = _absolute_mean(np.zeros_like(m), 2.0 * v).sum(axis=0)
        score[rows] -= (pairs + 0.5 * alone) / n_parts**2
    return float(score.mean())


def _absolute_mean(mean: Array, variance: Array) -> Array:
    """E|X| of Gaussians."""
    std = np.sqrt(variance)
    z = mean / std
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(mean * (2.0 * _normal_cdf(z) - 1.0) + 2.0 * std * density)


def _normal_cdf(z: Array) -> Array:
    return np.asarray(torch.special.ndtr(torch.from_numpy(z)).numpy())


def quantile_calibration_error(truth: Array, means: Array, variances: Array) -> float:
    """Mean gap, over 99 levels, between a level and the share of (N,) values that lie below
    the quantile of that level of their mixture of T Gaussians (T, N); 0 is calibrated.

    Source: Kuleshov, Fenner & Ermon 2018, section 3.5, with absolute gaps for squared ones.
    """
    ranks = np.sort(predictive_ranks(truth, means, variances))
    below = np.searchsorted(ranks, LEVELS, side="right") / len(truth)
    return float(np.abs(below - LEVELS).mean())


def predictive_ranks(truth: Array, means: Array, variances: Array) -> Array:
    """The probability (N,) that their mixtures of T Gaussians (T, N) give to less than the
    truth (N,); uniform if the mixtures are right (Dawid 1984)."""
    return np.asarray(_normal_cdf((truth - means) / np.sqrt(variances)).mean(axis=0))


def classification_errors(truth: Array, probabilities: Array) -> dict[str, float]:
    """Accuracy, negative log-likelihood, Brier score and expected calibration error of
    (N, C) probabilities against class positions (N,)."""
    chosen = probabilities[np.arange(len(truth)), truth]
    observed = np.eye(probabilities.shape[1])[truth]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "nll": float(-np.log(np.maximum(chosen, 1e-15)).mean()),
        "brier": float(((probabilities - observed) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(truth, probabilities),
        "mean_entropy": float(entropies(probabilities).mean()),
    }


def expected_calibration_error(truth: Array, probabilities: Array, n_bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, weighted by
    rows (Guo et al. 2017, equation 3)."""
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=is_right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(truth))
