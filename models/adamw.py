"""AdamW on flat tensors, with what is done beside each step: one pass over memory where the kernel
is compiled, otherwise torch's fused one without what `torch.optim` does around it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models import kernel
from models.kernel.training import Step, descend

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Moves flat values (n,) down their gradients, and a running mean (n,) after them.

    Weight decay is for the first `n_decayed`; a gradient that is longer than `longest` as a whole
    is shortened to it.

    The same steps as `torch.optim.AdamW`, whose Python takes twice as long as the kernel.
    Source: Loshchilov & Hutter 2019, algorithm 2.
    """

    def __init__(
        self,
        values: Tensor,
        gradients: Tensor,
        average: Tensor,
        n_decayed: int,
        weight_decay: float,
        longest: float | None = None,
    ) -> None:
        self.state = {
            "step": torch.zeros((), device=values.device),
            "mean": torch.zeros_like(values),
            "square": torch.zeros_like(values),
        }
        self._values, self._gradients, self._average = values, gradients, average
        self._n_decayed, self._weight_decay, self._longest = n_decayed, weight_decay, longest
        parts = ((slice(n_decayed), weight_decay), (slice(n_decayed, None), 0.0))
        self._parts = [part for part in parts if len(values[part[0]])]
        is_known = values.dtype == torch.float32 and not values.is_cuda
        self._is_compiled = is_known and kernel.is_available()

    def step(self, learning_rate: float, averaging: float = 0.0) -> None:
        """One step; the running mean follows by that share of the way."""
        self.state["step"].add_(1)
        if self._is_compiled:
            self._step_compiled(learning_rate, averaging)
            return
        self._clip()
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
        if averaging > 0.0:
            self._average.lerp_(self._values, averaging)

    def _step_compiled(self, learning_rate: float, averaging: float) -> None:
        step = Step(
            learning_rate, self._weight_decay, *BETAS, EPSILON, self._longest or 0.0, averaging,
            self._n_decayed, int(self.state["step"].item()),
        )  # fmt: skip
        descend(
            self._values,
            self._gradients,
            self.state["mean"],
            self.state["square"],
            self._average,
            step,
        )

    def _clip(self) -> None:
        if self._longest is not None:
            factor = self._longest / (torch.dot(self._gradients, self._gradients).sqrt_() + 1e-6)
            # A look at the factor would make a GPU wait.
            if self._gradients.is_cuda or factor < 1.0:
                self._gradients.mul_(factor.clamp_(max=1.0))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Puts the optimiser where another was."""
        for name, value in state.items():
            self.state[name].copy_(value)
