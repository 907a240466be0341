"""How good predictions were: errors in the target's units, likelihoods in nats."""

from __future__ import annotations

import numpy as np

from models.uncertainty import entropies

Array = np.ndarray


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
