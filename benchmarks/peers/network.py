"""The network that all peers serve, from the weights that `benchmarks.regression` writes."""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch import nn

FEATURES = 13


def load(weights: str, p: float = 0.1) -> nn.Sequential:
    """In eval mode: linear layers with ReLU and dropout between them."""
    tensors = load_file(weights)
    depth = len(tensors) // 2
    layers: list[nn.Module] = []
    for i in range(depth):
        outputs, inputs = tensors[f"{i}.weight"].shape
        linear = nn.Linear(inputs, outputs)
        linear.load_state_dict({"weight": tensors[f"{i}.weight"], "bias": tensors[f"{i}.bias"]})
        layers.append(linear)
        if i < depth - 1:
            layers += [nn.ReLU(), nn.Dropout(p)]
    return nn.Sequential(*layers).eval()


def build(hidden: int, depth: int, p: float = 0.1) -> nn.Sequential:
    """The same shape of any size, with weights of its own."""
    layers: list[nn.Module] = []
    inputs = FEATURES
    for _ in range(depth):
        layers += [nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(p)]
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(inputs, 1)).eval()


@torch.inference_mode()
def predict(network: nn.Module, instances: list[list[float]]) -> list[dict[str, float]]:
    """What `:predict` answers for these rows."""
    values = network(torch.tensor(instances, dtype=torch.float32))[:, 0].tolist()
    return [{"value": value} for value in values]
