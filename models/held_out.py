"""What a network says of rows that it has not learned from, beside what is true of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from models.conformal import row_uniforms
from models.errors import TrainingError
from models.sampling import Plan, predict, sample
from models.table import Target
from models.training_run import Split
from models.uncertainty import Summary, summarise

Array = np.ndarray

# Samples behind the calibration and the metrics, and the seed that names them.
N_SAMPLES, SEED = 100, 0


@dataclass(frozen=True)
class HeldOut:
    """Raw outputs in eval mode (1, N, K) and of T thinned networks (T, N, K); true values in
    the target's units or positions of classes (N,); the rows' uniforms (N,)."""

    target: Target
    evaluated: Array
    drawn: Array
    truth: Array
    uniforms: Array

    def groups(self, n_samples: int) -> Iterator[Summary]:
        """Summaries of all rows, each by so many samples of its own."""
        for first in range(0, len(self.drawn) - n_samples + 1, n_samples):
            yield summarise(self.target, self.drawn[first : first + n_samples])

    @property
    def eval_summary(self) -> Summary:
        """Of eval mode alone: nothing that samples differ in."""
        return summarise(self.target, np.repeat(self.evaluated, 2, axis=0))


def hold_out(plan: Plan, target: Target, split: Split) -> HeldOut:
    """What the network of that plan says of the split.

    Raises:
        TrainingError: an output is not a finite number.
    """
    truth = split.y.numpy()
    if target.task == "regression":
        truth = truth.astype(np.float64) * target.std + target.mean
    return HeldOut(
        target,
        evaluated=_finite(predict(plan, split.x))[None],
        drawn=draw(plan, split.x),
        truth=truth,
        uniforms=row_uniforms(split.x, SEED),
    )


def draw(plan: Plan, x: torch.Tensor, first: int = 0, n_samples: int = N_SAMPLES) -> Array:
    """Raw outputs (T, N, K) of that many samples from number `first` on.

    Raises:
        TrainingError: an output is not a finite number.
    """
    return _finite(sample(plan, x, seed=SEED, n_samples=n_samples, first=first))


def _finite(raw: torch.Tensor) -> Array:
    outputs = np.asarray(raw.double().numpy())
    if not np.isfinite(outputs).all():
        raise TrainingError(
            "diverged", "the trained network's outputs are not finite: try a lower learning_rate"
        )
    return outputs
