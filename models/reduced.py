"""Stratified samples, and what is known of them without sampling (`models.variance_reduction`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.linearisation import expand
from models.sampling import (
    SAMPLES_PER_CHECK,
    Plan,
    draw_block,
    make_prefix,
    open_stream,
    samples_per_block,
)

Array = np.ndarray

# Samples of one design, at most: p of them is a whole number for p of two digits. It depends on
# nothing but T, so that a draw that may stop early has the masks of one that does not.
MOST_SAMPLES_PER_DESIGN = 100
# The sum of a unit's inputs is as good as Gaussian, and the linearisation as good as its best,
# where so many inputs are noisy, and so many of them dropped (or kept, if these are fewer).
LEAST_GAUSSIAN_UNITS, LEAST_GAUSSIAN_DROPPED = 64, 6.0


@dataclass(frozen=True)
class Reduced:
    """T stratified samples of N rows and what is known of them without sampling.

    `outputs` (T, N, K) are textbook ones. `conditional` (T, N, 2) are mean and variance of the
    first output over the last noise (regression). `line` (T, N, O) is the linear part,
    `covariance` (N, O, O) its own, if it is to be used as a control variate, `propagated` (N, K)
    the analytic mean of the outputs. `raw`, `centre`, `spread` and `linear` are the same as
    arrays. `is_gaussian` says that only one layer's noise was sampled,
    of enough units: the linear part is then uncorrelated with the remainder, and the analytic
    mean almost exact.
    """

    outputs: Tensor
    conditional: Tensor
    line: Tensor
    covariance: Array | None
    propagated: Tensor
    is_gaussian: bool

    def __len__(self) -> int:
        return self.outputs.shape[0]

    @cached_property
    def raw(self) -> Array:
        return to_array(self.outputs)

    @cached_property
    def centre(self) -> Array:
        return to_array(self.conditional[..., 0])

    @cached_property
    def spread(self) -> Array:
        return to_array(self.conditional[..., 1])

    @cached_property
    def linear(self) -> Array:
        return to_array(self.line)


def draw_reduced(
    plan: Plan,
    x: Tensor,
    *,
    seed: int,
    n_samples: int,
    use_control: bool,
    should_stop: Callable[[int, Callable[[], Reduced]], bool] | None = None,
) -> Reduced:
    """Stratified samples of the rows x (N, D), and with `use_control` the control variate's
    covariance.

    `should_stop` is asked from time to time, with the number of samples so far and a way to see
    them.
    """
    prefix = make_prefix(plan, x)
    is_regression = plan.config.head == "regression"
    expansion = expand(plan, prefix)
    width = plan.config.raw_features
    outputs = torch.empty((n_samples, len(x), width), device=plan.device)
    conditional = outputs.new_zeros((n_samples, len(x), 2 if is_regression else 0))
    n_linear = 1 if is_regression else width
    linear = outputs.new_zeros((n_samples, len(x), n_linear))
    covariance = expansion.covariance if use_control else None
    leans = is_regression and is_gaussian(plan, expansion.noisy)

    def so_far() -> Reduced:
        return Reduced(
            outputs[:done],
            conditional[:done],
            linear[:done],
            covariance,
            expansion.mean,
            leans,
        )

    stream = open_stream(
        plan,
        seed,
        n_samples,
        samples_per_design=min(n_samples, MOST_SAMPLES_PER_DESIGN),
        is_whole=should_stop is None,
    )
    done, step = 0, n_samples if should_stop is None else 2
    while done < n_samples:
        end = min(done + step, n_samples)
        while done < end:
            block = slice(done, min(done + samples_per_block(plan), end))
            masks = stream.draw(block.stop - block.start)
            both = conditional[block] if is_regression else None
            draw_block(plan, prefix, masks, outputs[block], both)
            if expansion.noisy:
                linear[block] = expansion.linear_part(masks)
            done = block.stop
        if should_stop is not None and should_stop(done, so_far):
            break
        step = min(2 * step, SAMPLES_PER_CHECK)
    return so_far()


def is_gaussian(plan: Plan, sampled: Sequence[int]) -> bool:
    """Whether the noise that is sampled is that of one layer, of enough units."""
    if len(sampled) != 1:
        return False
    site, fan_in = plan.sites[sampled[0]], plan.weights[sampled[0]].shape[0]
    dropped = fan_in * min(site.p, 1.0 - site.p)
    return fan_in >= LEAST_GAUSSIAN_UNITS and dropped >= LEAST_GAUSSIAN_DROPPED


def to_array(values: Tensor) -> Array:
    """They, in double precision."""
    return values.double().cpu().numpy()
