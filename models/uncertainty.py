"""From T samples to an answer: moments, quantiles, entropies and votes for each row.

Arrays are NumPy float64, samples first: (T, N) for regression, (T, N, C) for classes; raw
outputs of the network are (T, N, K) as in `models.sampling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch

from models import kernel
from models.cancellation import stop_if_cancelled
from models.errors import NonFiniteError
from models.table import Target, softmax

Array = np.ndarray

# Numbers that are looked at together when quantiles are searched (512 KB each time).
_QUANTILE_BLOCK = 2**16
_ROOT_TWO_PI = math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class RegressionSummary:
    """What T Gaussians (mean and noise variance each) say of N rows, in the target's units.

    The predictive distribution is their equal mixture. All fields are (N,), `quantiles`
    is (N, Q).
    """

    mean: Array
    epistemic_std: Array
    aleatoric_std: Array
    quantiles: Array
    standard_error: Array

    @cached_property
    def std(self) -> Array:
        """Of the predictive distribution: both parts, as variances, added."""
        return np.asarray(np.hypot(self.epistemic_std, self.aleatoric_std))


@dataclass(frozen=True)
class ClassificationSummary:
    """What T probability vectors say of N rows. Entropies are in nats."""

    probabilities: Array  # (N, C), the mean over samples
    std: Array  # (N, C), over samples
    standard_error: Array  # (N, C), of the mean
    entropy: Array  # (N,), of the mean probabilities
    expected_entropy: Array  # (N,), mean of the samples' entropies
    variation_ratio: Array  # (N,), share of samples that do not vote for the modal class

    @property
    def mutual_information(self) -> Array:
        """Between the class and the thinned network, (N,): entropy minus expected entropy."""
        return np.asarray(self.entropy - self.expected_entropy)


Summary = RegressionSummary | ClassificationSummary


def summarise(target: Target, raw: Array, quantiles: Sequence[float] = ()) -> Summary:
    """The summary of raw outputs (T, N, K), T at least 2, in the target's own terms."""
    if target.task == "classification":
        return summarise_classification(softmax(raw))
    return summarise_regression(*to_gaussians(target, raw), quantiles)


def to_gaussians(target: Target, raw: Array) -> tuple[Array, Array]:
    """Means and noise variances (…, N) in the target's units, from raw outputs (…, N, 2)."""
    means = raw[..., 0] * target.std + target.mean
    return means, np.exp(raw[..., 1]) * target.std**2


def moments(summary: Summary) -> tuple[Array, Array]:
    """Mean and its spread over thinned networks: (N,) values, or (N, C) probabilities."""
    if isinstance(summary, RegressionSummary):
        return summary.mean, summary.epistemic_std
    return summary.probabilities, summary.std


def is_finite(summary: Summary) -> Array:
    """Which rows (N,) hold finite numbers only."""
    columns = [getattr(summary, item.name) for item in fields(summary)]
    flat = [column.reshape(len(column), -1) for column in columns]
    return np.asarray(np.isfinite(np.concatenate(flat, axis=1)).all(axis=1))


def check_finite(is_finite: Array, first_row: int = 0) -> None:
    """Nothing, if all rows (N,) are.

    Raises:
        NonFiniteError: with the others, counted from `first_row`.
    """
    if not is_finite.all():
        raise NonFiniteError([first_row + int(row) for row in np.flatnonzero(~is_finite)])


def join(parts: Sequence[Summary]) -> Summary:
    """The summary of the rows of all parts, in order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    columns = {
        item.name: np.concatenate([getattr(part, item.name) for part in parts])
        for item in fields(first)
    }
    return type(first)(**columns)


def take_rows(summary: Summary, rows: Array | slice) -> Summary:
    """The summary of those rows alone."""
    columns = {item.name: getattr(summary, item.name)[rows] for item in fields(summary)}
    return type(summary)(**columns)


def summarise_regression(
    means: Array, variances: Array, quantiles: Sequence[float] = ()
) -> RegressionSummary:
    """Moments and quantiles of N mixtures of T Gaussians, from means and variances (T, N).

    T is at least 2; the variance over samples is the unbiased one. Law of total variance:
    Kendall & Gal 2017, section 3.
    """
    mean = mean_of_samples(means)
    epistemic = np.sqrt(sum_of_samples((means - mean) ** 2) / (len(means) - 1))
    return RegressionSummary(
        mean=mean,
        epistemic_std=epistemic,
        aleatoric_std=np.sqrt(mean_of_samples(variances)),
        quantiles=mixture_quantiles(means, np.sqrt(variances), quantiles),
        standard_error=epistemic / np.sqrt(len(means)),
    )


def mean_of_samples(values: Array) -> Array:
    """Over the first axis, as `sum_of_samples`."""
    return sum_of_samples(values) / len(values)


def sum_of_samples(values: Array) -> Array:
    """(T, …) over the first axis; the same bits for a row among any number of rows."""
    rows_first = values.transpose((*range(1, values.ndim), 0))
    return np.asarray(np.add.reduce(np.ascontiguousarray(rows_first), axis=-1))


def summarise_classification(
    probabilities: Array, *, are_draws: bool = True
) -> ClassificationSummary:
    """Averages, entropies and votes of N rows from samples (T, N, C), T at least 2.

    Measures as in Gal 2016, section 3.3: predictive entropy, mutual information (BALD)
    and variation ratio. Points of an integral, which are no random draws, have no standard
    error.
    """
    n_samples = len(probabilities)
    mean = probabilities.mean(axis=0)
    std = probabilities.std(axis=0, ddof=1 if are_draws else 0)
    entropy = entropies(mean)
    return ClassificationSummary(
        probabilities=mean,
        std=std,
        standard_error=std / np.sqrt(n_samples) if are_draws else np.zeros_like(std),
        entropy=entropy,
        # Jensen: never above the entropy of the mean but by rounding.
        expected_entropy=np.minimum(entropies(probabilities).mean(axis=0), entropy),
        variation_ratio=1.0 - count_votes(probabilities).max(axis=0) / n_samples,
    )


def count_votes(probabilities: Array) -> Array:
    """How many of T samples (T, N, C) hold each class for the most probable, (C, N)."""
    votes = probabilities.argmax(axis=2)
    return np.stack([(votes == label).sum(axis=0) for label in range(probabilities.shape[2])])


def entropies(probabilities: Array) -> Array:
    """Shannon entropy in nats over the last axis; 0 log 0 is 0."""
    logs = np.log(np.where(probabilities > 0.0, probabilities, 1.0))
    return np.asarray(-(probabilities * logs).sum(axis=-1) + 0.0)


def mixture_quantiles(means: Array, stds: Array, levels: Sequence[float]) -> Array:
    """The quantiles (N, Q) of N equal mixtures of T Gaussians, from (T, N) means and stds.

    Root of the mixture's distribution function, by Newton steps from the Gaussian of the same
    moments inside a bracket that halves when a step leaves it; to 1e-10 of the bracket's first
    width, or until the distribution function is met to 1e-11.
    """
    n_samples, n_rows = means.shape
    if not levels:
        return np.empty((n_rows, 0))
    if kernel.is_available():
        return kernel.mixture_quantiles(means.T, stds.T, levels)
    step = max(1, _QUANTILE_BLOCK // (len(levels) * n_samples))
    blocks = [slice(begin, begin + step) for begin in range(0, n_rows, step)]
    found = [_quantiles(means[:, rows], stds[:, rows], levels) for rows in blocks]
    return np.asarray(np.concatenate(found, axis=1).T)


def _quantiles(means: Array, stds: Array, levels: Sequence[float]) -> Array:
    """(Q, N), all levels of these rows together."""
    n_samples = len(means)
    # (N, T) and (Q, N): sums run along the last axis.
    means, stds = np.ascontiguousarray(means.T), np.ascontiguousarray(stds.T)
    inverse = 1.0 / stds
    target = np.asarray(levels, dtype=np.float64)[:, None]
    z = torch.special.ndtri(torch.from_numpy(target)).numpy()
    # A mixture's quantile lies between the least and the greatest of its parts' quantiles.
    ends = means + z[:, :, None] * stds
    low, high = ends.min(axis=2), ends.max(axis=2)
    tolerance = 1e-10 * (high - low) + 1e-300
    # The next step of Newton's is of the square of this one: where no part is narrower than a
    # hundred thousand of them, the function is met to 1e-11 already.
    last_step = np.minimum(1e-6 * (high - low), 1e-5 * stds.min(axis=1)) + tolerance
    centre = means.sum(axis=1) / n_samples
    spread = np.sqrt(((means - centre[:, None]) ** 2 + stds**2).sum(axis=1) / n_samples)
    x = np.clip(centre + z * spread, low, high)
    # What is found stays, so that no row depends on those beside it.
    is_found = np.zeros(x.shape, dtype=bool)
    for _ in range(100):
        stop_if_cancelled()
        u = (x[:, :, None] - means) * inverse
        below = torch.special.ndtr(torch.from_numpy(u)).numpy().sum(axis=2)
        excess = below / n_samples - target
        density = (np.exp(-0.5 * u * u) * inverse).sum(axis=2) / (n_samples * _ROOT_TWO_PI)
        low = np.where(excess <= 0.0, x, low)
        high = np.where(excess >= 0.0, x, high)
        is_found |= high - low <= tolerance
        if is_found.all():
            break
        step = np.divide(excess, density, out=np.full_like(x, np.inf), where=density > 0.0)
        moved = x - step
        inside = (moved > low) & (moved < high)
        following = np.where(inside, moved, 0.5 * (low + high))
        is_last = np.abs(following - x) <= np.where(inside, last_step, tolerance)
        x = np.where(is_found, x, following)
        is_found |= is_last
        if is_found.all():
            break
    return np.asarray(x)
