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
from models.mlp import ACTIVATIONS, LOG_VARIANCE_RANGE, MLP, MLPConfig, divide

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

    K is C for classification, the logits at the eval temperature; for regression 2C, means
    before log noise variances.
    """
    x = x.to(plan.device)
    for i, (weight, bias) in enumerate(zip(plan.weights, plan.biases, strict=True)):
        x = _product(x, weight, bias)
        if i < len(plan.weights) - 1:
            x = ACTIVATIONS[plan.config.activation](x)
    outputs = clamp_noise(plan, x[:, : plan.config.raw_features])
    return divide(outputs, plan.config.eval_temperature)


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
    stream = MaskStream(plan.sites, seed, first=first, device=plan.device)
    outputs = torch.empty((n_samples, len(x), plan.config.raw_features), device=plan.device)
    done, step = 0, n_samples if should_stop is None else 2
    while done < n_samples:
        latest = outputs[done : done + step]
        for block in torch.split(latest, samples_per_block(plan)):
            draw_block(plan, prefix, stream.take(len(block)), block)
        done += len(latest)
        if should_stop is not None and should_stop(outputs[:done]):
            break
        step = min(2 * step, SAMPLES_PER_CHECK)
    return outputs[:done]


@dataclass(frozen=True)
class Prefix:
    """What no sample changes: the first active site, and the activations (N, H) that reach it."""

    site: int
    activations: Tensor


def make_prefix(plan: Plan, x: Tensor) -> Prefix:
    """The network before its first active dropout, applied to inputs (N, D)."""
    x = x.to(plan.device)
    activation = ACTIVATIONS[plan.config.activation]
    site = 0
    while site < len(plan.sites) - 1 and not plan.sites[site].is_active:
        x = activation(_product(x, plan.weights[site], plan.biases[site]))
        site += 1
    return Prefix(site, x)


def draw_block(
    plan: Plan,
    prefix: Prefix,
    masks: list[Tensor | None],
    out: Tensor,
    conditional: Tensor | None = None,
) -> None:
    """Fills out (S, N, K) with the raw outputs of S masks for each site.

    `conditional` (S, N, 2) is filled with mean and variance of the first raw output over the
    noise before the last layer, given the masks of the sites before that.
    """
    drops_weights = plan.config.dropout == "dropconnect"
    draw = _draw_thinned_weights if drops_weights else _draw_thinned_units
    draw(plan, prefix, masks, out, conditional)
    clamp_noise(plan, out)


def clamp_noise(plan: Plan, raw: Tensor) -> Tensor:
    """Raw outputs (…, K) themselves, log noise variances kept within bounds."""
    if plan.config.head == "regression":
        raw[..., plan.config.out_features :].clamp_(*LOG_VARIANCE_RANGE)
    return raw


def row_blocks(n_rows: int, floats_per_row: int, budget_floats: int) -> Iterator[slice]:
    """Consecutive slices of the rows, none of which needs more than the budget."""
    step = max(1, budget_floats // max(1, floats_per_row))
    for begin in range(0, n_rows, step):
        yield slice(begin, min(begin + step, n_rows))


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias for (rows, in), by code whose rounding does not depend on rows."""
    missing = MIN_PRODUCT_ROWS - len(x)
    if missing <= 0:
        return torch.addmm(bias, x, weight)
    return torch.addmm(bias, torch.nn.functional.pad(x, (0, 0, 0, missing)), weight)[: len(x)]


def samples_per_block(plan: Plan) -> int:
    """Samples whose masks and activations stay within a block."""
    if plan.config.dropout == "dropconnect":
        masked = sum(site.size for site in plan.sites if site.is_active)
        return max(1, 4 * BLOCK_FLOATS // max(1, masked))
    return max(1, BLOCK_FLOATS // max(plan.config.in_features, *plan.config.hidden, 16))


def _draw_thinned_units(
    plan: Plan,
    prefix: Prefix,
    masks: list[Tensor | None],
    out: Tensor,
    conditional: Tensor | None,
) -> None:
    activation = ACTIVATIONS[plan.config.activation]
    n_samples, last = len(out), len(plan.weights) - 1
    widest = max(weight.shape[1] for weight in plan.weights[prefix.site :])
    widest = max(widest, prefix.activations.shape[1])
    for rows in row_blocks(len(prefix.activations), n_samples * widest, BLOCK_FLOATS):
        hidden = prefix.activations[rows].unsqueeze(1)  # (R, 1, H), then (R, S, H)
        for i in range(prefix.site, len(plan.weights)):
            if i == last and conditional is not None:
                conditional[:, rows] = _without_last_noise(plan, hidden).transpose(0, 1)
            mask = masks[i]
            if mask is not None:
                hidden = hidden * mask
            elif hidden.shape[1] != n_samples:
                hidden = hidden.expand(-1, n_samples, -1)
            flat = _product(hidden.reshape(-1, hidden.shape[2]), plan.weights[i], plan.biases[i])
            if i < last:
                flat = activation(flat)
            hidden = flat.reshape(-1, n_samples, flat.shape[1])
        out[:, rows] = hidden[:, :, : plan.config.raw_features].transpose(0, 1)


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
    widest = max(weight.shape[1] for weight in plan.weights)
    widest = max(widest, prefix.activations.shape[1])
    for rows in row_blocks(len(prefix.activations), n_samples * widest, BLOCK_FLOATS):
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
    centre = _product(flat, mean * weight, plan.biases[-1])[:, 0]
    spread = _product(flat.square(), variance * weight.square(), torch.zeros_like(plan.biases[-1]))
    return torch.stack([centre, spread[:, 0]], dim=-1).reshape(*hidden.shape[:-1], 2)


def _thin(plan: Plan, weight: Tensor, mask: Tensor, layer: int) -> Tensor:
    """(S, in, out) weights from masks (S, out · in), padded columns left at zero."""
    outputs = (*plan.config.hidden, plan.config.raw_features)[layer]
    thinned = weight.repeat(len(mask), 1, 1)
    thinned[:, :, :outputs] *= mask.reshape(len(mask), outputs, -1).transpose(1, 2)
    return thinned
