"""A network small enough to be drawn: some of each layer's units, and the weights between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from models.sampling import Plan
from models.trace import LayerTrace

Array = np.ndarray


@dataclass(frozen=True)
class NetworkPicture:
    """`sizes` of the layers from the input to the C outputs, the positions of the units
    `shown` of each, and between each layer and the next the weights (shown, shown)."""

    sizes: tuple[int, ...]
    shown: tuple[Array, ...]
    links: tuple[Array, ...]


def picture_network(plan: Plan, most_units: int) -> NetworkPicture:
    """At most so many units of each layer, spread evenly over it: no choice that would know
    of weights or masks, so that what is seen dropped is a fair sample."""
    sizes = (plan.config.in_features, *plan.config.hidden, plan.config.out_features)
    shown = tuple(_spread(size, most_units) for size in sizes)
    links = tuple(
        weight.cpu().numpy()[np.ix_(before, after)].T
        for weight, (before, after) in zip(plan.weights, pairwise(shown), strict=True)
    )
    return NetworkPicture(sizes, shown, links)


def cut_layers(
    layers: Sequence[LayerTrace], picture: NetworkPicture
) -> list[tuple[LayerTrace, Array]]:
    """The layers' arrays for the shown units alone, and which these are.

    Of units the last layer is the last hidden one, of weights (DropConnect) the outputs.
    """
    by_weights = [layer.mask.ndim == 2 for layer in layers]
    last = len(picture.sizes) - (1 if any(by_weights) else 2)
    found = []
    for position, layer in zip(range(last - len(layers) + 1, last + 1), layers, strict=True):
        units = picture.shown[position]
        mask = layer.mask[units]
        if layer.mask.ndim == 2:
            mask = mask[:, picture.shown[position - 1]]
        cut = replace(
            layer,
            eval_activations=layer.eval_activations[units],
            sample_activations=layer.sample_activations[units],
            mask=mask,
            masked_activations=layer.masked_activations[units],
        )
        found.append((cut, units))
    return found


def _spread(size: int, most: int) -> Array:
    return np.arange(size) if size <= most else np.linspace(0, size - 1, most).round().astype(int)
