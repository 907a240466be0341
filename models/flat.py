"""Parameters as views of one flat tensor: what is done to all of them is one call."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def flatten(parameters: Iterable[nn.Parameter]) -> Tensor:
    """All values (n,), in order; from now on each parameter is a view of its part."""
    parameters = list(parameters)
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, part in zip(parameters, split_like(flat, parameters), strict=True):
        parameter.data = part
    return flat


def flatten_gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Room (n,) for all gradients, zero; each parameter's is a view of its part."""
    parameters = list(parameters)
    flat = torch.cat([torch.zeros_like(parameter).reshape(-1) for parameter in parameters])
    for parameter, part in zip(parameters, split_like(flat, parameters), strict=True):
        parameter.grad = part
    return flat


def split_like(flat: Tensor, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Parts of a flat tensor (n,) in the shapes of the parameters, in order: views."""
    parameters = list(parameters)
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
