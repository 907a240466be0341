"""T thinned networks on N rows, in bounded memory: the fast path of Monte Carlo dropout.

Four exact reductions of the textbook loop over `train()`:

- what precedes the first active dropout does not depend on the sample: once per row;
- sample t is one thinned network for all rows, so masks are (T, H) and not (T, N, H);
- the samples of a row meet each weight matrix in one product;
- rows and samples are cut into blocks that fit a cache, whatever N and T.

Nothing here reads or sets a module's mode: the mode is the function called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.dropout import ConcreteDropout
from models.masks import MaskStream, NoiseSite
from models.mlp import ACTIVATIONS, LOG_VARIANCE_RANGE, MLP, MLPConfig

# Activations held by one block, in floats (4 MB): larger gains nothing, smaller loses to overhead.
BLOCK_FLOATS = 2**20
# Samples drawn between two looks at the clock or at a stop rule.
SAMPLES_PER_CHECK = 32
# Below this many rows a matrix product takes other code, with other rounding.
MIN_PRODUCT_ROWS = 16


@dataclass(frozen=True)
class Plan:
    """A network's weights laid out for serving, with the noise that each site carries.

    `weights[i]` is (in, out), contiguous; the last is padded with zero columns to a
    multiple of 16, so that a row's bits do not depend on how many rows surround it.
    """

    config: MLPConfig
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    sites: tuple[NoiseSite, ...]

    @property
    def device(self) -> torch.device:
        return self.weights[0].device

    @property
    def is_stochastic(self) -> bool:
        return any(site.is_active for site in self.sites)

    @property
    def products_per_row(self) -> int:
        """Multiply-adds of one pass over one row."""
        return sum(weight.numel() for weight in self.weights)


def make_plan(network: MLP, device: torch.device | str = "cpu") -> Plan:
    """The serving layout of a network: copies, so that later training cannot reach it."""
    config = network.config
    weights = [_copy(linear.weight).t().contiguous() for linear in network.linears]
    biases = [_copy(linear.bias) for linear in network.linears]
    pad = -config.raw_features % 16
    weights[-1] = torch.nn.functional.pad(weights[-1], (0, pad))
    biases[-1] = torch.nn.functional.pad(biases[-1], (0, pad))
    drops_weights = config.dropout == "dropconnect"
    sizes = (config.in_features, *config.hidden)
    outputs = (*config.hidden, config.raw_features)
    sites = []
    for i, p in enumerate(network.probabilities):
        size = sizes[i] * outputs[i] if drops_weights else sizes[i]
        layer = network.dropouts[i]
        temperature = layer.temperature if isinstance(layer, ConcreteDropout) else 0.1
        sites.append(NoiseSite(config.dropout, p, size, temperature))
    return Plan(
        config,
        tuple(weight.to(device) for weight in weights),
        tuple(bias.to(device) for bias in biases),
        tuple(sites),
    )


def _copy(parameter: Tensor | torch.nn.Module) -> Tensor:
    assert isinstance(parameter, Tensor)
    return parameter.detach().float().clone()


def predict(plan: Plan, x: Tensor) -> Tensor:
    """Eval mode: the raw outputs (N, K) of inputs (N, D), dropout off.

    K is C for classification; for regression 2C, means before log noise variances.
    """
    x = x.to(plan.device)
    for i, (weight, bias) in enumerate(zip(plan.weights, plan.biases, strict=True)):
        x = _product(x, weight, bias)
        if i < len(plan.weights) - 1:
            x = ACTIVATIONS[plan.config.activation](x)
    return _clamped(plan, x[:, : plan.config.raw_features])


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

    `should_stop` sees the outputs in turn, (S, N, K) for the latest S samples: 2 at first,
    then twice as many each time up to `SAMPLES_PER_CHECK`. When it says so the drawing
    ends and T is less than `n_samples`.
    """
    x = x.to(plan.device)
    start, prefix = _prefix(plan, x)
    stream = MaskStream(plan.sites, seed, first=first, device=plan.device)
    outputs = torch.empty((n_samples, len(x), plan.config.raw_features), device=plan.device)
    draw = _draw_thinned_weights if plan.config.dropout == "dropconnect" else _draw_thinned_units
    done, step = 0, n_samples if should_stop is None else 2
    while done < n_samples:
        latest = outputs[done : done + step]
        for block in torch.split(latest, _samples_per_block(plan)):
            draw(plan, prefix, start, stream.take(len(block)), block)
        done += len(latest)
        if should_stop is not None and should_stop(latest):
            break
        step = min(2 * step, SAMPLES_PER_CHECK)
    return _clamped(plan, outputs[:done])


def row_blocks(n_rows: int, floats_per_row: int, budget_floats: int) -> Iterator[slice]:
    """Consecutive slices of the rows, none of which needs more than the budget."""
    step = max(1, budget_floats // max(1, floats_per_row))
    for begin in range(0, n_rows, step):
        yield slice(begin, min(begin + step, n_rows))


def _clamped(plan: Plan, raw: Tensor) -> Tensor:
    if plan.config.head == "classification":
        return raw
    raw[..., plan.config.out_features :].clamp_(*LOG_VARIANCE_RANGE)
    return raw


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias for (rows, in), by code whose rounding does not depend on rows."""
    missing = MIN_PRODUCT_ROWS - len(x)
    if missing <= 0:
        return torch.addmm(bias, x, weight)
    return torch.addmm(bias, torch.nn.functional.pad(x, (0, 0, 0, missing)), weight)[: len(x)]


def _prefix(plan: Plan, x: Tensor) -> tuple[int, Tensor]:
    """The first active site and what reaches it, (N, H): all that no sample changes."""
    activation = ACTIVATIONS[plan.config.activation]
    start = 0
    while start < len(plan.sites) - 1 and not plan.sites[start].is_active:
        x = activation(_product(x, plan.weights[start], plan.biases[start]))
        start += 1
    return start, x


def _samples_per_block(plan: Plan) -> int:
    if plan.config.dropout == "dropconnect":
        masked = sum(site.size for site in plan.sites if site.is_active)
        return max(1, 4 * BLOCK_FLOATS // max(1, masked))
    return max(1, BLOCK_FLOATS // max(plan.config.in_features, *plan.config.hidden, 16))


def _draw_thinned_units(
    plan: Plan, prefix: Tensor, start: int, masks: list[Tensor | None], out: Tensor
) -> None:
    """Fills out (S, N, K) from the prefix (N, H) and S masks for each site."""
    activation = ACTIVATIONS[plan.config.activation]
    n_samples = len(out)
    widest = max(weight.shape[1] for weight in plan.weights[start:])
    widest = max(widest, prefix.shape[1])
    for rows in row_blocks(len(prefix), n_samples * widest, BLOCK_FLOATS):
        hidden = prefix[rows].unsqueeze(1)  # (R, 1, H), then (R, S, H)
        for i in range(start, len(plan.weights)):
            mask = masks[i]
            if mask is not None:
                hidden = hidden * mask
            elif hidden.shape[1] != n_samples:
                hidden = hidden.expand(-1, n_samples, -1)
            flat = _product(hidden.reshape(-1, hidden.shape[2]), plan.weights[i], plan.biases[i])
            if i < len(plan.weights) - 1:
                flat = activation(flat)
            hidden = flat.reshape(-1, n_samples, flat.shape[1])
        out[:, rows] = hidden[:, :, : plan.config.raw_features].transpose(0, 1)


def _draw_thinned_weights(
    plan: Plan, prefix: Tensor, start: int, masks: list[Tensor | None], out: Tensor
) -> None:
    """Fills out (S, N, K) with S masks on the weights of each layer, shared by all rows."""
    activation = ACTIVATIONS[plan.config.activation]
    n_samples = len(out)
    thinned = [
        weight.expand(n_samples, -1, -1) if mask is None else _thin(plan, weight, mask, i)
        for i, (weight, mask) in enumerate(zip(plan.weights, masks, strict=True))
    ]
    widest = max(weight.shape[1] for weight in plan.weights)
    for rows in row_blocks(len(prefix), n_samples * max(widest, prefix.shape[1]), BLOCK_FLOATS):
        hidden = prefix[rows].expand(n_samples, -1, -1)
        for i in range(start, len(plan.weights)):
            hidden = torch.baddbmm(plan.biases[i], hidden, thinned[i])
            if i < len(plan.weights) - 1:
                hidden = activation(hidden)
        out[:, rows] = hidden[:, :, : plan.config.raw_features]


def _thin(plan: Plan, weight: Tensor, mask: Tensor, layer: int) -> Tensor:
    """(S, in, out) weights from masks (S, out · in), padded columns left at zero."""
    outputs = (*plan.config.hidden, plan.config.raw_features)[layer]
    thinned = weight.repeat(len(mask), 1, 1)
    thinned[:, :, :outputs] *= mask.reshape(len(mask), outputs, -1).transpose(1, 2)
    return thinned
