"""Monte Carlo dropout as the textbook has it: passes in train mode, one after another."""

import torch
from torch import Tensor, nn

from models import DropConnectLinear

TOGETHER = 100


def passes(network: nn.Module, x: Tensor, n: int) -> Tensor:
    """Outputs (n, rows, ...) of so many passes over the rows.

    A row draws masks of its own, so that a hundred passes over it are one pass over a hundred
    of it; but of DropConnect, where all rows of a pass share a mask.
    """
    shares = any(isinstance(layer, DropConnectLinear) for layer in network.modules())
    at_once = 1 if shares else TOGETHER
    network.train()
    with torch.no_grad():
        found = torch.cat([network(x.repeat(at_once, 1)) for _ in range(n // at_once)])
    return found.unflatten(0, (n, len(x)))
