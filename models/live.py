"""What answers claimed, and how true that turned out once the truth was known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from models.calibration import Calibration
from models.conformal import row_uniforms
from models.uncertainty import RegressionSummary, Summary

Array = np.ndarray

# Of the ranks of regressions and the confidences of classes.
BINS = 10
# No answer is held to be surer than this: one wrong one would else cost infinitely much.
LEAST_PROBABILITY = 1e-15


@dataclass(frozen=True)
class Values:
    """Eval-mode outputs, decoded: (N, 1) values or (N, C) probabilities."""

    values: Array
    coverage: None = None

    def columns(self) -> Array:
        """What has to be kept of each row: the outputs themselves."""
        return self.values


@dataclass(frozen=True)
class Claims:
    """What N rows were promised, from inputs (N, D) and a seed: a distribution, and intervals or
    sets of that coverage, or none."""

    summary: Summary
    calibration: Calibration
    coverage: float | None
    inputs: Array
    seed: int

    def columns(self) -> Array:
        """What has to be kept of each row: mean, std, and the interval's ends if there is one;
        or C probabilities, and which of C classes are in the set."""
        summary, coverage = self.summary, self.coverage
        if isinstance(summary, RegressionSummary):
            moments = [summary.mean, summary.std]
            ends = () if coverage is None else self.calibration.interval(summary, coverage)
            return np.stack([*moments, *ends], axis=1)
        if coverage is None:
            return summary.probabilities
        uniforms = row_uniforms(torch.from_numpy(self.inputs), self.seed)
        members = self.calibration.prediction_set(summary.probabilities, coverage, uniforms)
        return np.concatenate([summary.probabilities, members], axis=1)


@dataclass(frozen=True)
class Score:
    """How one row's answer compares with the truth; None where nothing was claimed.

    `error` is the signed error in the target's unit, for classes 1 if the label was wrong.
    `score` is the CRPS in that unit, or the Brier score; `bin` counts from 0 to `BINS` - 1 the
    rank of the truth in the predictive distribution, or the confidence in the label.
    """

    error: float
    covered: bool | None = None
    nll: float | None = None
    score: float | None = None
    confidence: float | None = None
    bin: int | None = None


def score_value(columns: Array, truth: float) -> Score:
    """Of a regression's row: (1,) a value, or as `Claims.columns`.

    Likelihood and CRPS are those of the Gaussian with that mean and std (CRPS: Gneiting &
    Raftery 2007, equation 21).
    """
    if len(columns) == 1:
        return Score(float(columns[0]) - truth)
    mean, std, *ends = columns.tolist()
    z = (truth - mean) / std
    below = 0.5 * math.erfc(-z / math.sqrt(2.0))
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return Score(
        mean - truth,
        covered=ends[0] <= truth <= ends[1] if ends else None,
        nll=0.5 * z * z + math.log(std) + 0.5 * math.log(2.0 * math.pi),
        score=std * (z * (2.0 * below - 1.0) + 2.0 * density - 1.0 / math.sqrt(math.pi)),
        bin=min(int(below * BINS), BINS - 1),
    )


def score_label(columns: Array, truth: int, n_classes: int) -> Score:
    """Of a classification's row: (C,) probabilities, or as `Claims.columns`."""
    probabilities, members = columns[:n_classes], columns[n_classes:]
    observed = np.eye(n_classes)[truth]
    label = int(probabilities.argmax())
    confidence = float(probabilities[label])
    return Score(
        float(label != truth),
        covered=bool(members[truth]) if len(members) else None,
        nll=-math.log(max(float(probabilities[truth]), LEAST_PROBABILITY)),
        score=float(((probabilities - observed) ** 2).sum()),
        confidence=confidence,
        bin=min(int(confidence * BINS), BINS - 1),
    )
