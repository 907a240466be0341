"""A network's outputs to first order in its dropout noise, with moments layer by layer.

Around the noise's mean an output is f + Σ c · (noise - mean) + a remainder. The linear part has
known mean and variance, and most of the spread: estimators subtract it from the samples and
add it back exactly. Coefficients are not those at the mean itself but averages over the noise:
each unit's input is taken as Gaussian, which sums of hundreds of dropped units are, and its
slope is averaged over that. By Stein's identity these are the best linear coefficients.
Source: Wang & Manning 2013 (Gaussian inputs under dropout); Stein 1981, lemma 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.mlp import ACTIVATIONS, LOG_VARIANCE_RANGE
from models.packed import Masks, count_samples, unpacked
from models.plan import Plan, Prefix, fill_up, rowwise
from models.sampling import block_floats, row_blocks

# Nodes of the Gauss-Hermite rule for activations without a closed form.
_NODES = 9


@dataclass(frozen=True)
class SiteEffect:
    """How noise at one site moves the outputs of N rows.

    `activations` (N, I) are the mean inputs of the linear layer there, `squares` their second
    moments, before the noise; `slopes` (N, O, J) how the O outputs follow its J outputs, `back`
    (N, O, I) how they follow its inputs.
    """

    index: int
    activations: Tensor
    squares: Tensor
    slopes: Tensor
    back: Tensor


@dataclass(frozen=True)
class Linearisation:
    """`mean` (N, K) is the propagated mean of the raw outputs; `effects` are of the active sites,
    first to last, on the first O raw outputs."""

    plan: Plan
    mean: Tensor
    effects: tuple[SiteEffect, ...]

    def without_last_site(self) -> Linearisation:
        """What is left when the noise before the last linear layer is integrated out."""
        last = len(self.plan.sites) - 1
        effects = tuple(effect for effect in self.effects if effect.index != last)
        return Linearisation(self.plan, self.mean, effects)

    def linear_part(self, masks: Masks) -> Tensor:
        """Σ c · (noise - mean) for S masks of each site, (S, N, O)."""
        n_rows, n_outputs = self.mean.shape[0], self._n_outputs
        n_samples = count_samples(masks)
        total = self.mean.new_zeros((n_samples, n_rows, n_outputs))
        for effect in self.effects:
            (mask,) = unpacked([masks[effect.index]])
            assert mask is not None
            deviation = mask - self.plan.sites[effect.index].moments[0]
            if self._drops_weights:
                self._add_effect_of_weights(effect, deviation, total)
            else:
                sensitivity = effect.back * effect.activations[:, None]
                moved = rowwise(sensitivity.reshape(n_rows * n_outputs, -1), deviation.t())
                total += moved.t().reshape(n_samples, n_rows, n_outputs)
        return total

    @property
    def noisy(self) -> tuple[int, ...]:
        """The sites whose noise is in it."""
        return tuple(effect.index for effect in self.effects)

    @property
    def covariance(self) -> np.ndarray:
        """Of the linear part, exactly, (N, O, O) float64."""
        return self._covariance(with_interactions=False)

    @property
    def covariance_with_interactions(self) -> np.ndarray:
        """The same with each site's share taken in the mean over the noise before it, which
        adds the terms of first order in several layers at once."""
        return self._covariance(with_interactions=True)

    def _covariance(self, *, with_interactions: bool) -> np.ndarray:
        n_outputs = self._n_outputs
        total = self.mean.new_zeros((len(self.mean), n_outputs, n_outputs), dtype=torch.float64)
        for effect in self.effects:
            variance = self.plan.sites[effect.index].moments[1]
            squares = effect.squares if with_interactions else effect.activations.square()
            if self._drops_weights:
                # Of each output unit the noise is its own.
                power = squares.double() @ self._weight(effect).double().square()
                slopes = effect.slopes.double()
                total += variance * (slopes * power[:, None]) @ slopes.transpose(1, 2)
            else:
                back = effect.back.double()
                scaled = back * squares[:, None].double()
                if n_outputs == 1:
                    # Along contiguous numbers: the same bits whatever rows there are beside.
                    total += variance * (scaled * back).sum(dim=2, keepdim=True)
                else:
                    total += variance * scaled @ back.transpose(1, 2)
        return np.asarray(total.cpu().numpy())

    @property
    def _n_outputs(self) -> int:
        return self.effects[0].slopes.shape[1] if self.effects else 1

    @property
    def _drops_weights(self) -> bool:
        return self.plan.config.dropout == "dropconnect"

    def _weight(self, effect: SiteEffect) -> Tensor:
        return self.plan.weights[effect.index][:, : effect.slopes.shape[2]]

    def _add_effect_of_weights(self, effect: SiteEffect, deviation: Tensor, total: Tensor) -> None:
        weight = self._weight(effect)
        shape = (len(deviation), weight.shape[1], weight.shape[0])
        moved = deviation.reshape(shape).transpose(1, 2) * weight
        floats = moved.shape[0] * moved.shape[2]
        for rows in row_blocks(len(self.mean), floats, block_floats(self.plan)):
            change = effect.activations[rows] @ moved  # (S, R, J)
            total[:, rows] += torch.einsum("srj,roj->sro", change, effect.slopes[rows])


class Expansion(Protocol):
    """What sampling needs of a linearisation, whoever computed it: the names are those of
    `Linearisation`."""

    @property
    def mean(self) -> Tensor: ...
    @property
    def noisy(self) -> tuple[int, ...]: ...
    @property
    def covariance(self) -> np.ndarray: ...
    def linear_part(self, masks: Masks) -> Tensor: ...


def expand(plan: Plan, prefix: Prefix) -> Expansion:
    """The linearisation that samples are drawn beside: of the logits or, for a regression, of its
    mean, with the noise before the last layer integrated out."""
    is_regression = plan.config.head == "regression"
    n_outputs = 1 if is_regression else plan.config.out_features
    if plan.kernel is not None:
        end = len(plan.sites) - is_regression
        return plan.kernel.linearise(plan.moments, prefix.site, end, prefix.activations, n_outputs)
    expansion = linearise(plan, prefix, n_outputs)
    return expansion.without_last_site() if is_regression else expansion


def linearise(plan: Plan, prefix: Prefix, n_outputs: int) -> Linearisation:
    """The first-order expansion of the first O raw outputs, from the first active site on.

    One pass forward and one back, of O outputs for each row.
    """
    n_rows, last = len(prefix.activations), len(plan.weights) - 1
    # Rows of zeros are carried along, and left away at the end.
    mean = fill_up(prefix.activations)
    square = mean.square()
    inputs: dict[int, tuple[Tensor, Tensor]] = {}
    gates: dict[int, Tensor] = {}
    for i in range(prefix.site, last + 1):
        inputs[i] = mean[:n_rows], square[:n_rows]
        m, v = plan.moments[i]
        at = torch.addmm(plan.biases[i], m * mean, plan.weights[i])
        if i < last:
            variance = ((v + m * m) * square - (m * mean).square()).clamp_(min=0.0)
            spread = variance @ plan.squared_weights[i]
            mean, square, gates[i] = _through(plan.config.activation, at, spread)
    raw = at[:n_rows, : plan.config.raw_features]
    # Of the last layer's outputs each follows itself.
    slopes = torch.eye(n_outputs, raw.shape[1], dtype=raw.dtype, device=raw.device)
    slopes = slopes.expand(len(mean), -1, -1)
    back = plan.weights[last][:, :n_outputs].t().expand(len(mean), -1, -1)
    effects = []
    for i in range(last, prefix.site - 1, -1):
        if i < last:
            slopes = back * (plan.sites[i + 1].moments[0] * gates[i])[:, None]
            flat = slopes.reshape(-1, slopes.shape[2])
            back = rowwise(flat, plan.weights[i].t()).reshape(len(mean), n_outputs, -1)
        if plan.moments[i][1] > 0.0:
            effects.append(SiteEffect(i, *inputs[i], slopes[:n_rows], back[:n_rows]))
    if plan.config.head == "regression":
        raw[:, plan.config.out_features :].clamp_(*LOG_VARIANCE_RANGE)
    return Linearisation(plan, raw, tuple(reversed(effects)))


def _through(name: str, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, second moment and mean slope of an activation of Gaussian inputs."""
    # The smallest spread keeps quotients sound; where it is larger than the true one, slopes
    # are averaged a little too widely, which costs no estimator its correctness.
    std = (variance + 1e-6 * mean.square() + 1e-12).sqrt()
    if name == "relu":
        z = mean / std
        above = torch.special.ndtr(z)
        density = torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        first = mean * above + std * density
        second = (mean.square() + std.square()) * above + mean * std * density
        return first, torch.maximum(second, first.square()), above
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights /= weights.sum()
    first, second, slope = (torch.zeros_like(mean) for _ in range(3))
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        value = ACTIVATIONS[name](mean + std * node)
        first += weight * value
        second += weight * value.square()
        slope += (weight * node) * value / std
    return first, torch.maximum(second, first.square()), slope
