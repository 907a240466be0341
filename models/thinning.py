"""Products of kept units alone: with a mask that all rows share, dropped units need no arithmetic.

Rows and columns of the weights are gathered for each sample, which takes time of its own: it
pays from a number of rows on that falls as p rises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.dropout import inverted_scale
from models.mlp import ACTIVATIONS
from models.plan import IN_PLACE, Plan, product

# Costs in multiply-adds: to gather one weight; one weight of a row before its columns are chosen;
# and the calls for one layer of one sample. Measured at 256 to 1024 units.
GATHER_COST, GATHER_ROW_COST, CALLS_COST = 24.0, 8.0, 1.5e6


def pays(plan: Plan, n_rows: int) -> bool:
    """Whether gathering what is kept costs less than multiplying what is dropped as well."""
    if plan.config.dropout != "bernoulli" or plan.device.type != "cpu":
        return False
    kept = [1.0 - site.p for site in plan.sites]
    dense = thinned = 0.0
    for i, weight in enumerate(plan.weights[1:-1], 1):
        size = weight.numel()
        dense += n_rows * size
        thinned += n_rows * size * kept[i] * kept[i + 1]
        thinned += size * kept[i] * (GATHER_COST * kept[i + 1] + GATHER_ROW_COST) + CALLS_COST
    return thinned < dense


def gathered_hidden(
    plan: Plan, first_site: int, inputs: Tensor, masks: Sequence[Tensor | None], *, is_whole: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Sample by sample the activations (R, k) before the last mask of inputs (R, H) of the first
    site, and which units these are; all of them (None) if there is no mask or `is_whole`."""
    activation = IN_PLACE.get(plan.config.activation, ACTIVATIONS[plan.config.activation])
    last = len(plan.weights) - 1
    chosen = [None if mask is None else _kept(mask) for mask in masks]
    if is_whole:
        chosen[last] = None
    n_samples = next(len(mask) for mask in masks if mask is not None)
    for s in range(n_samples):
        hidden, own = inputs, _of(chosen[first_site], s)
        if own is not None:
            hidden = hidden.index_select(1, own)
        for i in range(first_site, last):
            weight, bias = plan.weights[i], plan.biases[i]
            if own is not None:
                hidden = hidden.mul_(inverted_scale(plan.sites[i].p))
                weight = weight.index_select(0, own)
            own = _of(chosen[i + 1], s)
            if own is not None:
                weight, bias = weight.index_select(1, own), bias.index_select(0, own)
            hidden = activation(product(hidden, weight, bias))
        yield hidden, own


def _kept(mask: Tensor) -> tuple[Tensor, ...]:
    """The units that each sample of masks (S, H) keeps."""
    samples, units = mask.nonzero(as_tuple=True)
    return torch.split(units, torch.bincount(samples, minlength=len(mask)).tolist())


def _of(chosen: tuple[Tensor, ...] | None, sample: int) -> Tensor | None:
    return None if chosen is None else chosen[sample]
