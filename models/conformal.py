"""Conformal scores: how ill a row's truth fits what was said of it, by a summary alone.

The larger the score, the worse the fit. What a new row's score stays below with a stated
probability is found on held-out rows (`models.calibration`).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np
from torch import Tensor

from models.uncertainty import ClassificationSummary, RegressionSummary, Summary

Array = np.ndarray

RegressionScore = Literal["scaled", "absolute"]
ClassScore = Literal["lac", "aps", "raps"]
ScoreKind = RegressionScore | ClassScore

REGRESSION_SCORES: tuple[RegressionScore, ...] = ("scaled", "absolute")
CLASS_SCORES: tuple[ClassScore, ...] = ("lac", "aps", "raps")

# RAPS adds this much for each class ahead of the truth, beyond the first so many.
RAPS_PENALTY = 0.1
RAPS_FREE = 1


def row_uniforms(x: Tensor | Array, seed: int) -> Array:
    """A number in [0, 1) for each row of inputs (N, D), the same for the same row and seed
    wherever it stands: it decides at random, but once and for all, what is in a row's set."""
    inputs = x.cpu().numpy() if isinstance(x, Tensor) else x
    rows = np.ascontiguousarray(inputs.astype("<f4") + 0.0)  # + 0.0: -0 is 0
    key = seed.to_bytes(8, "little")
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in rows]
    return np.array([(int.from_bytes(word, "little") >> 11) / 2.0**53 for word in digests])


def scores_of_truth(kind: ScoreKind, summary: Summary, truth: Array, uniforms: Array) -> Array:
    """The scores (N,) of true values or class positions (N,); only classes use the uniforms."""
    if isinstance(summary, ClassificationSummary):
        scores = scores_of_labels(kind, summary.probabilities, uniforms)
        return np.asarray(scores[np.arange(len(truth)), truth])
    return np.asarray(np.abs(truth - summary.mean) / interval_scale(kind, summary))


def interval_scale(kind: ScoreKind, summary: RegressionSummary) -> Array:
    """What a score of 1 means in the target's units, (N,).

    "scaled": the predictive std (Papadopoulos et al. 2002; Lei et al. 2018, section 5.2);
    "absolute": 1 everywhere, so that all intervals are of one width (Lei et al. 2018,
    section 2.2).
    """
    return np.ones_like(summary.std) if kind == "absolute" else summary.std


def scores_of_labels(kind: ScoreKind, probabilities: Array, uniforms: Array) -> Array:
    """The score (N, C) that each class would have if it were the true one.

    "lac": 1 - p (Sadinle, Lei & Wasserman 2019). "aps": the probability of all classes
    ahead of it, and of itself the share that the row's uniform says (Romano, Sesia & Candès
    2020, equation 5). "raps": that, and `RAPS_PENALTY` for each class ahead of it beyond the
    first `RAPS_FREE` - 1 (Angelopoulos et al. 2021, equation 4).
    """
    if kind == "lac":
        return np.asarray(1.0 - probabilities)
    order = (-probabilities).argsort(axis=1, kind="stable")
    rows = np.arange(len(probabilities))[:, None]
    ordered = probabilities[rows, order]
    ordered = ordered.cumsum(axis=1) - (1.0 - uniforms[:, None]) * ordered
    if kind == "raps":
        ordered += _raps_penalties(probabilities.shape[1])
    scores: Array = np.empty_like(ordered)
    scores[rows, order] = ordered
    return scores


@lru_cache(maxsize=64)
def _raps_penalties(n_classes: int) -> Array:
    """By rank (C,)."""
    ranks = np.arange(1, n_classes + 1)
    return np.asarray(RAPS_PENALTY * np.maximum(0, ranks - RAPS_FREE))
