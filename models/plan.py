"""A network laid out for serving: its weights, the noise at each site, and what precedes it.

Nothing here reads or sets a module's mode: the mode is the function called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.cancellation import stop_if_cancelled
from models.dropout import ConcreteDropout, inverted_scale
from models.graphs import Graphs, graphs_for
from models.kernel import Asked, Weights
from models.mask_cache import MaskCache
from models.masks import NoiseSite
from models.mlp import ACTIVATIONS, LOG_VARIANCE_RANGE, MLP, MLPConfig, divide

# Below this many rows a matrix product takes other code, with other rounding.
MIN_PRODUCT_ROWS = 16
# Beyond this p what is dropped is no longer taken away from the whole, but left out.
MOST_TAKEN_AWAY = 1 / 3
# Multiply-adds of eval mode between two chances to give it up: a quarter of a second of one core.
BLOCK_PRODUCTS = 10**10
# Activations that need no second copy of what they are applied to.
IN_PLACE: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_}


@dataclass(frozen=True)
class Plan:
    """A network's weights laid out for serving, with the noise that each site carries.

    `weights[i]` is (in, out), contiguous; the last is padded with zero columns to a
    multiple of 16, so that a row's bits do not depend on how many rows surround it. `masks`
    may be shared by plans; `kernel` are the same weights for compiled code, where there is any,
    `graphs` what a GPU replays that reads them, if they are on one. `asked` is what
    `models.at_once` was asked lately.
    """

    config: MLPConfig
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    sites: tuple[NoiseSite, ...]
    masks: MaskCache = field(default_factory=MaskCache, repr=False, compare=False)
    kernel: Weights | None = field(default=None, repr=False, compare=False)
    graphs: Graphs | None = field(default=None, repr=False, compare=False)
    asked: dict[Hashable, Asked] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )

    @property
    def device(self) -> torch.device:
        return self.weights[0].device

    @property
    def is_stochastic(self) -> bool:
        return bool(self.probabilities)

    @cached_property
    def noise_per_sample(self) -> int:
        """Mask values of one sample."""
        return sum(site.size for site in self.sites if site.is_active)

    @cached_property
    def mask_bytes(self) -> int:
        """Of one sample, packed where noise drops or keeps."""
        return sum(
            8 * math.ceil(site.size / 64) if site.is_binary else 4 * site.size
            for site in self.sites
            if site.is_active
        )

    @cached_property
    def first_noisy_site(self) -> int:
        """The first active site, or else the last one."""
        active = (i for i, site in enumerate(self.sites) if site.is_active)
        return next(active, len(self.sites) - 1)

    @cached_property
    def whole_scale(self) -> float:
        """The factor of what the first active site keeps, if it drops few units, so that to take
        these away is less work than to add up the others; otherwise 0."""
        site = self.sites[self.first_noisy_site]
        is_few = site.is_active and site.is_binary and site.p <= MOST_TAKEN_AWAY
        return inverted_scale(site.p) if is_few else 0.0

    @cached_property
    def moments(self) -> tuple[tuple[float, float], ...]:
        """Mean and variance of the noise at each site."""
        return tuple(site.moments for site in self.sites)

    @cached_property
    def probabilities(self) -> tuple[float, ...]:
        """The p of each active site."""
        return tuple(site.p for site in self.sites if site.is_active)

    @cached_property
    def squared_weights(self) -> tuple[Tensor, ...]:
        """What variances go through, as means go through `weights`."""
        return tuple(weight.square() for weight in self.weights)

    @cached_property
    def products_per_row(self) -> int:
        """Multiply-adds of one pass over one row."""
        return sum(weight.numel() for weight in self.weights)


def make_plan(
    network: MLP, device: torch.device | str = "cpu", masks: MaskCache | None = None
) -> Plan:
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
    weights = [weight.to(device) for weight in weights]
    biases = [bias.to(device) for bias in biases]
    return Plan(
        config,
        tuple(weights),
        tuple(biases),
        tuple(sites),
        MaskCache() if masks is None else masks,
        Weights.of(config, weights, biases),
        graphs_for(weights[0].device),
    )


def with_own_masks(plan: Plan) -> Plan:
    """The same with a mask cache of its own, for a seed that is not going to be asked for again:
    what is kept for other seeds stays."""
    return replace(plan, masks=MaskCache())


def _copy(parameter: Tensor | torch.nn.Module) -> Tensor:
    assert isinstance(parameter, Tensor)
    return parameter.detach().float().clone()


def predict(plan: Plan, x: Tensor) -> Tensor:
    """Eval mode: the raw outputs (N, K) of inputs (N, D), dropout off.

    K is C for classification, the logits at the eval temperature; for regression 2C, means
    before log noise variances.
    """
    if plan.kernel is not None:
        return divide(plan.kernel.predict(x), plan.config.eval_temperature)
    n_rows = len(x)
    x = fill_up(x.to(plan.device))
    activation = IN_PLACE.get(plan.config.activation, ACTIVATIONS[plan.config.activation])
    for i, (weight, bias) in enumerate(zip(plan.weights, plan.biases, strict=True)):
        x = torch.addmm(bias, x, weight)
        if i < len(plan.weights) - 1:
            x = activation(x)
    outputs = clamp_noise(plan, x[:n_rows, : plan.config.raw_features])
    return divide(outputs, plan.config.eval_temperature)


def predict_array(plan: Plan, x: np.ndarray) -> np.ndarray:
    """The same of arrays: of few rows torch's tensors would take longer than the products."""
    if plan.kernel is not None:
        return divide(plan.kernel.predict_array(x), plan.config.eval_temperature)
    step = max(1, BLOCK_PRODUCTS // plan.products_per_row)
    outputs = []
    for block in torch.split(torch.from_numpy(x), step):
        stop_if_cancelled()
        outputs.append(predict(plan, block))
    return np.asarray(torch.cat(outputs).cpu())


@dataclass(frozen=True)
class Prefix:
    """What no sample changes: the first active site, the activations (N, H) that reach it, and
    for compiled code what the layer there says of them `whole`, where few of them are dropped."""

    site: int
    activations: Tensor
    whole: Tensor | None = None


def make_prefix(plan: Plan, x: Tensor) -> Prefix:
    """The network before its first active dropout, applied to inputs (N, D)."""
    x = x.to(plan.device)
    site = plan.first_noisy_site
    if plan.kernel is not None:
        reached = plan.kernel.forward(x, site) if site else plan.kernel.checked(x)
        scale = plan.whole_scale
        return Prefix(
            site, reached, plan.kernel.make_whole(site, reached, scale) if scale else None
        )
    activation = ACTIVATIONS[plan.config.activation]
    for weight, bias in zip(plan.weights[:site], plan.biases[:site], strict=True):
        x = activation(product(x, weight, bias))
    return Prefix(site, x)


def clamp_noise(plan: Plan, raw: Tensor) -> Tensor:
    """Raw outputs (…, K) themselves, log noise variances kept within bounds."""
    if plan.config.head == "regression":
        raw[..., plan.config.out_features :].clamp_(*LOG_VARIANCE_RANGE)
    return raw


def fill_up(x: Tensor) -> Tensor:
    """(rows, in) with rows of zeros below, if it has fewer than a product should."""
    missing = MIN_PRODUCT_ROWS - len(x)
    return x if missing <= 0 else torch.nn.functional.pad(x, (0, 0, 0, missing))


def rowwise(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight for (rows, in), without a bias and of any width; the same bits for a row among
    any number of them."""
    n_rows, width = len(x), weight.shape[1]
    missing = -width % MIN_PRODUCT_ROWS
    if missing:
        weight = torch.nn.functional.pad(weight, (0, missing))
    return torch.mm(fill_up(x), weight)[:n_rows, :width]


def product(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
    """x @ weight + bias for (rows, in), by code whose rounding does not depend on rows; in `out`
    if that is given."""
    if len(x) >= MIN_PRODUCT_ROWS:
        return torch.addmm(bias, x, weight, out=out)
    full = torch.addmm(bias, fill_up(x), weight)[: len(x)]
    return full if out is None else out.copy_(full)
