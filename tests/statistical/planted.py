"""Three faults that a dropout test has to notice, planted in otherwise right code."""

from __future__ import annotations

import torch
from torch import Tensor

from models.dropout import Dropout


class NeverDrops(Dropout):
    """Dropout switched off."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Unscaled(Dropout):
    """The 1/(1-p) is missing."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.empty_like(x).bernoulli_(1.0 - self.p)


class Swapped(Dropout):
    """p taken for the probability of keeping, as in Srivastava et al. 2014."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.empty_like(x).bernoulli_(self.p) / self.p


FAULTS = (NeverDrops, Unscaled, Swapped)
