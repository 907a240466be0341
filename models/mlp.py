"""The network: a multilayer perceptron whose hidden layers end in dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.dropout import (
    ConcreteDropout,
    DropConnectLinear,
    Dropout,
    GaussianDropout,
    check_probability,
)

DropoutKind = Literal["bernoulli", "gaussian", "concrete", "dropconnect"]
Head = Literal["regression", "classification"]
Values = TypeVar("Values", Tensor, np.ndarray)

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}
UNIT_DROPOUT: Mapping[str, Callable[[float], nn.Module]] = {
    "bernoulli": Dropout,
    "gaussian": GaussianDropout,
    "concrete": ConcreteDropout,
}

# Bounds of the log noise variance, in units of the standardised target.
LOG_VARIANCE_RANGE = (-14.0, 6.0)


@dataclass(frozen=True)
class MLPConfig:
    """Everything that fixes the shape of an `MLP`, as plain values.

    `p` holds one drop probability for each hidden layer; a single number stands for all
    of them. With kind "dropconnect" it belongs to the weights that read that layer, and
    `input_p` to those that read the input. The logits of eval mode are divided by
    `eval_temperature` (Guo et al. 2017); those of a stochastic pass have their temperature
    in the weights.

    Raises:
        ValueError: a size below 1, an unknown activation, kind or head, a p outside
            [0, 1], as many p as there are no hidden layers for, or a temperature that is not
            positive or of a regression.
    """

    in_features: int
    out_features: int = 1
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    dropout: DropoutKind = "bernoulli"
    p: tuple[float, ...] | float = 0.1
    input_p: float = 0.0
    head: Head = "regression"
    eval_temperature: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        p = self.p if isinstance(self.p, tuple | list) else (self.p,) * len(self.hidden)
        object.__setattr__(self, "p", tuple(float(value) for value in p))
        if min((self.in_features, self.out_features, *self.hidden)) < 1:
            raise ValueError("every layer needs at least one unit")
        if len(self.layer_p) != len(self.hidden):
            raise ValueError(
                f"{len(self.layer_p)} values of p for {len(self.hidden)} hidden layers"
            )
        for value in (self.input_p, *self.layer_p):
            check_probability(value)
        for name, known in (
            ("activation", tuple(ACTIVATIONS)),
            ("dropout", (*UNIT_DROPOUT, "dropconnect")),
            ("head", ("regression", "classification")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} has to be one of {', '.join(known)}")
        if not (self.eval_temperature > 0.0 and math.isfinite(self.eval_temperature)):
            raise ValueError(f"a temperature is positive and finite, not {self.eval_temperature}")
        if self.head == "regression" and self.eval_temperature != 1.0:
            raise ValueError("a regression has no temperature")

    @property
    def layer_p(self) -> tuple[float, ...]:
        """The drop probability of each hidden layer, in order."""
        assert isinstance(self.p, tuple)
        return self.p

    @property
    def raw_features(self) -> int:
        """Outputs of the last linear layer: C, and for regression a log noise variance each."""
        return self.out_features * (2 if self.head == "regression" else 1)

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold; `MLPConfig(**fields)` is the way back."""
        return {**asdict(self), "hidden": list(self.hidden), "p": list(self.layer_p)}


def divide(logits: Values, temperature: float) -> Values:
    """The logits at that temperature."""
    return logits if temperature == 1.0 else logits / temperature


class MLP(nn.Module):
    """Linear layers, each hidden one followed by its activation and by dropout.

    In eval mode a deterministic function; in train mode each call is one stochastic pass
    with masks from torch's generator. This is the reference that the fast paths of
    `models.sampling` agree with.
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.in_features, *config.hidden, config.raw_features)
        probabilities = (config.input_p, *config.layer_p)
        drops_weights = config.dropout == "dropconnect"
        self.linears = nn.ModuleList(
            DropConnectLinear(a, b, p) if drops_weights else nn.Linear(a, b)
            for (a, b), p in zip(pairwise(sizes), probabilities, strict=True)
        )
        # One for the input and one for each hidden layer.
        self.dropouts = nn.ModuleList(
            nn.Identity() if drops_weights else UNIT_DROPOUT[config.dropout](p)
            for p in probabilities
        )
        self.activation = ACTIVATIONS[config.activation]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The drop probability of the input and of each hidden layer, as learned so far."""
        layers = self.linears if self.config.dropout == "dropconnect" else self.dropouts
        return tuple(float(layer.p) for layer in layers)  # type: ignore[arg-type]

    def features(self, x: Tensor) -> Tensor:
        """What the last linear layer reads, (N, H), from inputs (N, D)."""
        x = self.dropouts[0](x)
        for linear, dropout in zip(self.linears[:-1], self.dropouts[1:], strict=True):
            x = dropout(self.activation(linear(x)))
        return x

    def raw(self, x: Tensor) -> Tensor:
        """All outputs of the last layer: (N, C) logits for classification; for regression
        (N, 2C), the means and then the logarithms of the noise variances, unclamped. Before
        the eval temperature."""
        outputs: Tensor = self.linears[-1](self.features(x))
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) logits, or means of the standardised target, from inputs (N, D)."""
        outputs = self.raw(x)[..., : self.config.out_features]
        return outputs if self.training else divide(outputs, self.config.eval_temperature)
