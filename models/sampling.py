"""T thinned networks on N rows, in bounded memory: the fast path of Monte Carlo dropout.

Five exact reductions of the textbook loop over `train()`:

- what precedes the first active dropout does not depend on the sample: once per row;
- sample t is one thinned network for all rows, so masks are (T, H) and not (T, N, H);
- where the first active dropout drops few units, all samples share the product with all of
  them, and take away what they drop (`Plan.whole_scale`; compiled code alone does this);
- the samples of a row meet each other weight matrix in one product, or, where that is less work,
  kept units alone meet (`models.thinning`);
- rows and samples are cut into blocks that fit a cache, whatever N and T.

Nothing here reads or sets a module's mode: the mode is the function called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from models import thinning
from models.cancellation import stop_if_cancelled
from models.graphs import LEAST_SAMPLES
from models.mlp import ACTIVATIONS
from models.packed import Masks, bits_of, unpacked, with_bits
from models.plan import (
    IN_PLACE,
    Plan,
    Prefix,
    clamp_noise,
    make_plan,
    make_prefix,
    predict,
    product,
)
from models.streams import open_stream

__all__ = [
    "Plan",
    "Prefix",
    "clamp_noise",
    "draw_block",
    "make_plan",
    "make_prefix",
    "open_stream",
    "predict",
    "row_blocks",
    "sample",
    "samples_per_block",
]

# Activations held by one block, in floats (1 MB): more leaves the cache, less loses to overhead.
BLOCK_FLOATS = 2**18
# The same on a GPU (64 MB), where less than fills its processors is lost to overhead; and how many
# make a draw so long that its launches, hidden behind it, need no graph.
GPU_BLOCK_FLOATS, GRAPH_FLOATS = 2**24, 2**22
# Samples drawn between two looks at the clock or at a stop rule.
SAMPLES_PER_CHECK = 32


def sample(
    plan: Plan,
    x: Tensor,
    *,
    seed: int,
    n_samples: int,
    first: int = 0,
    should_stop: Callable[[Tensor], bool] | None = None,
) -> Tensor:
    """MC mode: raw outputs (T, N, K) of samples first … first + T - 1 on finite inputs (N, D).

    `should_stop` sees all outputs so far: 2 samples at first, then twice as many more each time
    up to `SAMPLES_PER_CHECK`. When it says so the drawing ends and T is less than `n_samples`.
    """
    prefix = make_prefix(plan, x)
    stream = open_stream(plan, seed, n_samples, first=first, is_whole=should_stop is None)
    outputs = torch.empty((n_samples, len(x), plan.config.raw_features), device=plan.device)
    done, step = 0, n_samples if should_stop is None else 2
    while done < n_samples:
        end = min(done + step, n_samples)
        while done < end:
            block = outputs[done : min(done + samples_per_block(plan), end)]
            draw_block(plan, prefix, stream.draw(block.shape[0]), block)
            done += block.shape[0]
        if should_stop is not None and should_stop(outputs[:done]):
            break
        step = min(2 * step, SAMPLES_PER_CHECK)
    return outputs[:done]


def draw_block(
    plan: Plan,
    prefix: Prefix,
    masks: Masks,
    out: Tensor,
    conditional: Tensor | None = None,
) -> None:
    """Fills out (S, N, K) with the raw outputs of S masks for each site, packed or not.

    `conditional` (S, N, 2), of a regression, is filled with mean and variance of the first raw
    output over the noise before the last layer, given the masks of the sites before that.
    """
    stop_if_cancelled()
    if plan.kernel is not None:
        noise = plan.sites[-1].moments
        plan.kernel.draw(
            prefix.site, prefix.activations, prefix.whole, plan.whole_scale, masks, noise, out,
            conditional,
        )  # fmt: skip
        return
    outputs = [out] if conditional is None else [out, conditional]
    n_rows, n_drawn = out.shape[1], max(len(out), LEAST_SAMPLES)
    floats = n_drawn * max(n_rows * _widest(plan, prefix), plan.noise_per_sample)
    if plan.graphs is None or floats > GRAPH_FLOATS:
        _draw(plan, prefix, masks, outputs)
        return

    def draw(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        given = iter(inputs)
        reached = Prefix(prefix.site, next(given))
        same = [None if mask is None else with_bits(mask, next(given)) for mask in masks]
        _draw(plan, reached, same, outputs)

    noisy = [bits_of(mask) for mask in masks if mask is not None]
    plan.graphs.run((plan.sites, len(outputs)), draw, prefix.activations, noisy, outputs)


def row_blocks(n_rows: int, floats_per_row: int, budget_floats: int) -> Iterator[slice]:
    """Consecutive slices of the rows, none of which needs more than the budget; between them
    the computation can be cancelled."""
    step = max(1, budget_floats // max(1, floats_per_row))
    for begin in range(0, n_rows, step):
        stop_if_cancelled()
        yield slice(begin, min(begin + step, n_rows))


def samples_per_block(plan: Plan) -> int:
    """Samples whose masks and activations stay within a block."""
    if plan.config.dropout == "dropconnect":
        return max(1, 4 * block_floats(plan) // max(1, plan.noise_per_sample))
    return max(1, block_floats(plan) // max(plan.config.in_features, *plan.config.hidden, 16))


def block_floats(plan: Plan) -> int:
    """Activations of one block where that plan is."""
    return BLOCK_FLOATS if plan.graphs is None else GPU_BLOCK_FLOATS


def _widest(plan: Plan, prefix: Prefix) -> int:
    widest = max(weight.shape[1] for weight in plan.weights[prefix.site :])
    return max(widest, prefix.activations.shape[1])


def _draw(plan: Plan, prefix: Prefix, masks: Masks, outputs: Sequence[Tensor]) -> None:
    """What `draw_block` says by torch, for out and, if it is asked for, conditional."""
    out, conditional = outputs[0], outputs[1] if len(outputs) > 1 else None
    drops_weights = plan.config.dropout == "dropconnect"
    draw = _draw_thinned_weights if drops_weights else _draw_thinned_units
    draw(plan, prefix, unpacked(masks), out, conditional)
    clamp_noise(plan, out)


def _draw_thinned_units(
    plan: Plan,
    prefix: Prefix,
    masks: list[Tensor | None],
    out: Tensor,
    conditional: Tensor | None,
) -> None:
    n_samples, n_rows = len(out), len(prefix.activations)
    widest = _widest(plan, prefix)
    if thinning.pays(plan, n_rows):
        for rows in row_blocks(n_rows, widest, block_floats(plan)):
            _draw_gathered(plan, prefix, rows, masks, out, conditional)
        return
    activation = IN_PLACE.get(plan.config.activation, ACTIVATIONS[plan.config.activation])
    last = len(plan.weights) - 1
    blocks = list(row_blocks(n_rows, n_samples * widest, block_floats(plan)))
    # Memory that is new costs as much as the products: what one layer reads is the next one's.
    floats = blocks[0].stop * n_samples * widest
    free, used = prefix.activations.new_empty((2, floats)).unbind()
    for rows in blocks:
        stop_if_cancelled()
        hidden = prefix.activations[rows].unsqueeze(1)  # (R, 1, H), then (R, S, H)
        for i in range(prefix.site, len(plan.weights)):
            if i == last and conditional is not None:
                conditional[:, rows] = _without_last_noise(plan, hidden).transpose(0, 1)
            mask = masks[i]
            if i > prefix.site:
                hidden = hidden if mask is None else hidden.mul_(mask)
            elif mask is None:
                hidden = hidden.expand(-1, n_samples, -1)
            else:
                shape = (len(hidden), *mask.shape)
                hidden = torch.mul(hidden, mask, out=_take(free, *shape))
                free, used = used, free
            flat = hidden.reshape(-1, hidden.shape[2])
            to = _take(free, len(flat), plan.weights[i].shape[1])
            flat = product(flat, plan.weights[i], plan.biases[i], out=to)
            free, used = used, free
            if i < last:
                flat = activation(flat)
            hidden = flat.reshape(-1, n_samples, flat.shape[1])
        out[:, rows] = hidden[:, :, : plan.config.raw_features].transpose(0, 1)


def _take(memory: Tensor, *shape: int) -> Tensor:
    """The first numbers of a flat tensor, in that shape."""
    return memory[: math.prod(shape)].view(shape)


def _draw_gathered(
    plan: Plan,
    prefix: Prefix,
    rows: slice,
    masks: list[Tensor | None],
    out: Tensor,
    conditional: Tensor | None,
) -> None:
    """The same for some rows, sample by sample, without arithmetic for what is dropped."""
    weight, bias = plan.weights[-1], plan.biases[-1]
    mask = masks[-1]
    samples = thinning.gathered_hidden(
        plan, prefix.site, prefix.activations[rows], masks, is_whole=conditional is not None
    )
    for s, (hidden, own) in enumerate(samples):
        if conditional is not None:
            conditional[s, rows] = _without_last_noise(plan, hidden)
        if mask is None:
            drawn = product(hidden, weight, bias)
        elif own is None:
            drawn = product(hidden * mask[s], weight, bias)
        else:
            drawn = product(
                hidden * mask[s].index_select(0, own), weight.index_select(0, own), bias
            )
        out[s, rows] = drawn[:, : plan.config.raw_features]


def _draw_thinned_weights(
    plan: Plan,
    prefix: Prefix,
    masks: list[Tensor | None],
    out: Tensor,
    conditional: Tensor | None,
) -> None:
    activation = ACTIVATIONS[plan.config.activation]
    n_samples, last = len(out), len(plan.weights) - 1
    thinned = [
        weight.expand(n_samples, -1, -1) if mask is None else _thin(plan, weight, mask, i)
        for i, (weight, mask) in enumerate(zip(plan.weights, masks, strict=True))
    ]
    floats = n_samples * _widest(plan, prefix)
    for rows in row_blocks(len(prefix.activations), floats, block_floats(plan)):
        hidden = prefix.activations[rows].expand(n_samples, -1, -1)
        for i in range(prefix.site, len(plan.weights)):
            if i == last and conditional is not None:
                conditional[:, rows] = _without_last_noise(plan, hidden)
            hidden = torch.baddbmm(plan.biases[i], hidden, thinned[i])
            if i < last:
                hidden = activation(hidden)
        out[:, rows] = hidden[:, :, : plan.config.raw_features]


def _without_last_noise(plan: Plan, hidden: Tensor) -> Tensor:
    """Mean and variance (…, 2) of the first raw output over the noise on what the last layer
    reads, (…, H); it is the same for units and for weights.

    The layer is linear: the mean is that of the mean noise, the variance Σ v w² h² (Rao &
    Blackwell: an expectation that is known need not be sampled).
    """
    mean, variance = plan.sites[-1].moments
    flat = hidden.reshape(-1, hidden.shape[-1])
    weight = plan.weights[-1]
    centre = product(flat, mean * weight, plan.biases[-1])[:, 0]
    spread = product(flat.square(), variance * weight.square(), torch.zeros_like(plan.biases[-1]))
    return torch.stack([centre, spread[:, 0]], dim=-1).reshape(*hidden.shape[:-1], 2)


def _thin(plan: Plan, weight: Tensor, mask: Tensor, layer: int) -> Tensor:
    """(S, in, out) weights from masks (S, out · in), padded columns left at zero."""
    outputs = (*plan.config.hidden, plan.config.raw_features)[layer]
    thinned = weight.repeat(len(mask), 1, 1)
    thinned[:, :, :outputs] *= mask.reshape(len(mask), outputs, -1).transpose(1, 2)
    return thinned
