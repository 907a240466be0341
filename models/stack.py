"""Many networks of one shape fitted in lockstep, for cross-validation and search.

A small network's step is mostly overhead, which a stack pays once: thirty networks of two
layers of 50 units cost a tenth of thirty runs, five of 256 units half of five.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.mlp import ACTIVATIONS, LOG_VARIANCE_RANGE, MLP, MLPConfig
from models.training_run import Split, TrainingOptions


@dataclass(frozen=True)
class Member:
    """One network of a stack: the rows that train it (n,), the p of its hidden layers, and its
    weight decay."""

    rows: Tensor
    p: float
    weight_decay: float


def fit_stack(
    config: MLPConfig, data: Split, members: Sequence[Member], options: TrainingOptions
) -> list[MLP]:
    """The members' networks after the last epoch, in eval mode on the CPU.

    Each is fitted as by `models.training.fit`, but without validation rows: nothing stops
    early, and the learning rate follows the cosine whatever the schedule. A network whose loss
    diverged has weights that are not finite. Torch's global generators are left as they were
    found.

    Raises:
        ValueError: Concrete dropout, which learns its p; or members with unequal rows.
    """
    if config.dropout == "concrete":
        raise ValueError("a stack cannot learn p: there is no Concrete dropout in it")
    if len({len(member.rows) for member in members}) != 1:
        raise ValueError("all networks of a stack need the same number of rows")
    options = options.resolved(len(members[0].rows))
    device = torch.device(options.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        stack = _Stack(config, data.to(device), members, options)
        assert options.epochs is not None
        for epoch in range(options.epochs):
            stack.train_epoch(0.5 * (1.0 + math.cos(math.pi * epoch / options.epochs)))
        return stack.unstack()


class _Stack:
    """The moving parts: weights (B, in, out) and biases (B, 1, out) of B networks."""

    def __init__(
        self,
        config: MLPConfig,
        data: Split,
        members: Sequence[Member],
        options: TrainingOptions,
    ) -> None:
        device = data.x.device
        self._config = config
        self._data = data
        self._options = options
        self._rows = torch.stack([member.rows for member in members]).to(device)
        self._networks = [MLP(replace(config, p=member.p)) for member in members]
        self._weights, self._biases = [], []
        for linears in zip(*(network.linears for network in self._networks), strict=True):
            weights = torch.stack([_detached(linear.weight).t() for linear in linears])
            biases = torch.stack([_detached(linear.bias)[None] for linear in linears])
            self._weights.append(weights.to(device).contiguous().requires_grad_())
            self._biases.append(biases.to(device).requires_grad_())
        parameters = [*self._weights, *self._biases]
        self._values = [parameter.detach() for parameter in parameters]
        self._averages = [value.clone() for value in self._values]
        # Weight decay is each network's own, so it is not the optimiser's.
        self._optimiser = torch.optim.AdamW(
            parameters, lr=options.learning_rate, weight_decay=0.0, fused=True
        )
        self._decay = _each([member.weight_decay for member in members], device)
        p = _each([member.p for member in members], device)
        self._p = [torch.full_like(p, config.input_p), *[p for _ in config.hidden]]
        self._steps = 0

    def train_epoch(self, share_of_rate: float) -> None:
        """One pass over each network's rows, in an order of its own."""
        assert self._options.batch_size is not None
        rate = self._options.learning_rate * share_of_rate
        self._optimiser.param_groups[0]["lr"] = rate
        order = torch.rand(self._rows.shape, device=self._rows.device).argsort(dim=1)
        for batch in torch.split(self._rows.gather(1, order), self._options.batch_size, dim=1):
            self._optimiser.zero_grad(set_to_none=True)
            objectives = self._objectives(self._data.x[batch], self._data.y[batch])
            objectives.sum().backward()  # type: ignore[no-untyped-call]
            self._clip()
            torch._foreach_mul_(self._values, [1.0 - rate * self._decay] * len(self._values))
            self._optimiser.step()
            self._constrain()
            self._steps += 1
            step = max(1.0 - self._options.averaging, 1.0 / self._steps)
            torch._foreach_lerp_(self._averages, self._values, step)

    def unstack(self) -> list[MLP]:
        """The running means, each as a network of its own."""
        n_layers = len(self._weights)
        for i, network in enumerate(self._networks):
            for layer, linear in enumerate(network.linears):
                weight, bias = self._averages[layer][i], self._averages[n_layers + layer][i]
                _detached(linear.weight).copy_(weight.t())
                _detached(linear.bias).copy_(bias[0])
        return [network.eval() for network in self._networks]

    def _objectives(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) from inputs (B, n, D) and targets (B, n); see `Run` in models.training_run."""
        activation = ACTIVATIONS[self._config.activation]
        for layer in range(len(self._weights) - 1):
            x = activation(self._linear(layer, x))
        if self._config.head == "classification":
            return self._cross_entropies(self._linear(-1, x), y)
        n_outputs = self._config.out_features
        mean = self._linear(-1, x)[..., 0]
        log_variance = self._linear(-1, x.detach())[..., n_outputs].clamp(*LOG_VARIANCE_RANGE)
        squared = (y - mean).square()
        noise_loss = log_variance + squared.detach() * torch.exp(-log_variance)
        return (squared + 0.5 * noise_loss).mean(dim=1)

    def _cross_entropies(self, logits: Tensor, y: Tensor) -> Tensor:
        smoothing = self._options.label_smoothing
        losses = F.cross_entropy(
            logits.flatten(0, 1), y.flatten(), reduction="none", label_smoothing=smoothing
        ).view_as(y)
        if self._options.class_weights is None:
            return losses.mean(dim=1)
        counts = torch.bincount(self._data.y, minlength=self._config.out_features).clamp(min=1)
        weights = (1.0 / counts)[y]
        return (weights * losses).sum(dim=1) / weights.sum(dim=1)

    def _linear(self, layer: int, x: Tensor) -> Tensor:
        """A layer's outputs (B, n, out), its dropout, on what it reads or on weights, on."""
        weight, bias = self._weights[layer], self._biases[layer]
        if self._config.dropout == "dropconnect":
            return torch.baddbmm(bias, x, self._drop(layer, weight))
        return torch.baddbmm(bias, self._drop(layer, x), weight)

    def _drop(self, layer: int, values: Tensor) -> Tensor:
        p = self._p[layer]
        if not p.any():
            return values
        if self._config.dropout == "gaussian":
            return values * (
                1.0 + torch.randn_like(values, requires_grad=False) * (p / (1 - p)).sqrt()
            )
        kept = torch.rand(values.shape, device=values.device) >= p
        return values * (kept / (1.0 - p))

    def _clip(self) -> None:
        longest = self._options.gradient_clip
        if longest is None:
            return
        gradients = [cast("Tensor", p.grad) for p in (*self._weights, *self._biases)]
        squares = torch.stack([g.square().sum(dim=(1, 2)) for g in gradients])
        factors = (longest / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, [factors[:, None, None]] * len(gradients))

    def _constrain(self) -> None:
        longest = self._options.max_norm
        if longest is not None:
            for values in self._values[: len(self._weights) - 1]:
                norms = values.norm(dim=1, keepdim=True)
                values.mul_((longest / norms.clamp(min=1e-12)).clamp(max=1.0))


def _each(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None, None]


def _detached(parameter: Tensor | torch.nn.Module) -> Tensor:
    assert isinstance(parameter, Tensor)
    return parameter.detach()
