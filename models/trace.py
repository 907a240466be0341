"""What dropout does to one row, layer by layer: for eyes, not for speed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from models.dropout import inverted_scale
from models.masks import NoiseSite
from models.mlp import ACTIVATIONS, divide
from models.sampling import Plan, open_stream

Array = np.ndarray

# Mask values counted at a time.
_BLOCK = 2**22


@dataclass(frozen=True)
class LayerTrace:
    """One place where dropout acts, in eval mode and in one sample.

    For units: `masked` = `sample` · mask · scale, all (units,). For DropConnect the mask is
    that of the weights, (out, in), and activations are the layer's outputs, (out,), with its
    own weights whole (`sample`) and thinned (`masked`); of the last layer these are the C
    outputs, without the noise variance, in eval mode at its temperature. Gaussian noise is its
    own mask, and as its mean is 1 its scale is 1. `fraction_dropped` is of that sample; a
    concrete mask below 1/2 counts.
    """

    name: str
    kind: str
    p: float
    scale: float
    units: int
    eval_activations: Array
    sample_activations: Array
    mask: Array
    masked_activations: Array
    fraction_dropped: float


@dataclass(frozen=True)
class Trace:
    """All layers, and the fraction dropped over all of them and all T samples."""

    layers: list[LayerTrace]
    fraction_dropped: float


def with_probability(plan: Plan, p: float) -> Plan:
    """The same network with that p wherever it drops: what would be if p were another."""
    sites = tuple(replace(site, p=p) if site.is_active else site for site in plan.sites)
    return replace(plan, sites=sites)


def trace_dropout(plan: Plan, x: Tensor, *, seed: int, n_samples: int, sample: int = 0) -> Trace:
    """The trace of one row x (1, D) in the sample of that number, below `n_samples`, which is
    that of `sampling.sample`.

    Source of the inverted scale: Srivastava et al. 2014, section 10 (their p is the
    probability of keeping).
    """
    masks, fraction_dropped = _look_at_masks(plan, seed, n_samples, sample)
    x = x.to(plan.device)
    drops_weights = plan.config.dropout == "dropconnect"
    layers = _weight_layers(plan, x, masks) if drops_weights else _unit_layers(plan, x, masks)
    return Trace(layers, fraction_dropped)


def _unit_layers(plan: Plan, x: Tensor, masks: list[Tensor | None]) -> list[LayerTrace]:
    evaluated = sampled = x[0]
    layers = []
    for i, (site, mask) in enumerate(zip(plan.sites, masks, strict=True)):
        masked = sampled if mask is None else sampled * mask
        if i > 0 or site.is_active:
            name = "input" if i == 0 else f"hidden {i}"
            layers.append(_layer(name, site, mask, evaluated, sampled, masked))
        if i < len(plan.weights) - 1:
            activation = ACTIVATIONS[plan.config.activation]
            evaluated = activation(evaluated @ plan.weights[i] + plan.biases[i])
            sampled = activation(masked @ plan.weights[i] + plan.biases[i])
    return layers


def _weight_layers(plan: Plan, x: Tensor, masks: list[Tensor | None]) -> list[LayerTrace]:
    evaluated = sampled = x[0]
    # Of the last layer only the C outputs, not the noise variance beside them.
    sizes = (*plan.config.hidden, plan.config.out_features)
    layers = []
    for i, (site, mask) in enumerate(zip(plan.sites, masks, strict=True)):
        weight, bias = plan.weights[i][:, : sizes[i]], plan.biases[i][: sizes[i]]
        activation = ACTIVATIONS["identity" if i == len(sizes) - 1 else plan.config.activation]
        shaped = weight.new_ones(weight.t().shape)
        if mask is not None:
            shaped = mask.reshape(-1, len(weight))[: sizes[i]]
        thinned = weight * shaped.t()
        evaluated = activation(evaluated @ weight + bias)
        whole = activation(sampled @ weight + bias)
        sampled = activation(sampled @ thinned + bias)
        if i == len(sizes) - 1:
            evaluated = divide(evaluated, plan.config.eval_temperature)
        if i > 0 or site.is_active:
            layers.append(_layer(f"linear {i + 1}", site, shaped, evaluated, whole, sampled))
    return layers


def _layer(
    name: str,
    site: NoiseSite,
    mask: Tensor | None,
    evaluated: Tensor,
    sampled: Tensor,
    masked: Tensor,
) -> LayerTrace:
    scale = 1.0 if site.kind == "gaussian" else inverted_scale(site.p)
    factors = np.ones(site.size) if mask is None else mask.double().cpu().numpy()
    kept = factors / scale if scale else factors
    return LayerTrace(
        name=name,
        kind=site.kind,
        p=site.p,
        scale=scale,
        units=len(evaluated),
        eval_activations=evaluated.cpu().numpy(),
        sample_activations=sampled.cpu().numpy(),
        mask=kept.round(6),
        masked_activations=masked.cpu().numpy(),
        fraction_dropped=_count_dropped(site, factors) / factors.size,
    )


def _count_dropped(site: NoiseSite, factors: Array) -> int:
    if site.kind == "gaussian" and site.p < 1.0:
        return 0
    return int(np.count_nonzero(factors <= 0.5 * inverted_scale(site.p)))


def _look_at_masks(
    plan: Plan, seed: int, n_samples: int, sample: int
) -> tuple[list[Tensor | None], float]:
    """The masks of one of the samples, and the fraction dropped over all of them."""
    stream = open_stream(plan, seed, n_samples)
    width = sum(site.size for site in plan.sites if site.is_active)
    shown: list[Tensor | None] = []
    dropped, done = 0, 0
    while done < n_samples:
        count = min(n_samples - done, max(1, _BLOCK // width))
        masks = stream.take(count)
        for site, mask in zip(plan.sites, masks, strict=True):
            if mask is not None:
                dropped += _count_dropped(site, mask.cpu().numpy())
        if done <= sample < done + count:
            shown = [None if mask is None else mask[sample - done] for mask in masks]
        done += count
    return shown, dropped / (width * n_samples)
