"""AdamW on flat tensors: torch's fused kernel, without what `torch.optim` does around it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Moves flat values (n,) by their gradients; weight decay is for the first `n_decayed`.

    The same steps as `torch.optim.AdamW`, whose Python takes twice as long as the kernel.
    Source: Loshchilov & Hutter 2019, algorithm 2.
    """

    def __init__(
        self, values: Tensor, gradients: Tensor, n_decayed: int, weight_decay: float
    ) -> None:
        self.state = {
            "step": torch.zeros((), device=values.device),
            "mean": torch.zeros_like(values),
            "square": torch.zeros_like(values),
        }
        self._values, self._gradients = values, gradients
        parts = ((slice(n_decayed), weight_decay), (slice(n_decayed, None), 0.0))
        self._parts = [part for part in parts if len(values[part[0]])]

    def step(self, learning_rate: float) -> None:
        """One step down the gradients."""
        self.state["step"].add_(1)
        for part, weight_decay in self._parts:
            torch._fused_adamw_(
                [self._values[part]],
                [self._gradients[part]],
                [self.state["mean"][part]],
                [self.state["square"][part]],
                [],
                [self.state["step"]],
                lr=learning_rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Puts the optimiser where another was."""
        for name, value in state.items():
            self.state[name].copy_(value)
