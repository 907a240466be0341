"""Bernoulli masks for training: one independent draw for each row and unit.

On the CPU they come from 16-bit words of a fast generator, a function of seed and epoch alone;
torch's own takes ten times as long. On a GPU they are torch's.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from models import kernel
from models.dropout import inverted_scale
from models.kernel.training import drop_values
from models.mlp import MLPConfig

WORD = 2**16


class TrainingMasks:
    """Dropout of what the layers of a network read, in batches of at most that size.

    `scales` holds the factor of what survives, for the input and each hidden layer. On the CPU
    p is the nearest multiple of 2⁻¹⁶ (below 1 but for p = 1), and the scale is of that one, so
    that the mean of a mask is 1 exactly.
    """

    def __init__(
        self, config: MLPConfig, batch_size: int, device: torch.device | str, seed: int
    ) -> None:
        self._seed = seed
        self._p = [
            p if p == 1.0 else min(round(p * WORD), WORD - 1) / WORD
            for p in (config.input_p, *config.layer_p)
        ]
        self.scales = [inverted_scale(p) for p in self._p]
        widest = batch_size * max(config.in_features, *config.hidden)
        self._factors = torch.empty(widest, device=device)
        self._kept = np.empty(widest, dtype=np.bool_)
        self._bits = np.random.PCG64DXSM()

    def begin_epoch(self, epoch: int) -> None:
        """Makes what follows the masks of that epoch, whatever was drawn before."""
        self._bits = np.random.PCG64DXSM(np.random.SeedSequence(self._seed, spawn_key=(epoch,)))

    def drop(self, layer: int, values: Tensor) -> Tensor:
        """The values (n, size) that the layer reads, in place: dropped, or scaled."""
        p, scale = self._p[layer], self.scales[layer]
        if p == 0.0:
            return values
        if p == 1.0:
            return values.zero_()
        size = values.numel()
        factors = self._factors[:size]
        if values.is_cuda:
            factors.bernoulli_(1.0 - p).mul_(scale)
        elif kernel.is_available() and values.dtype == torch.float32:
            drop_values(self._bits, values, round(p * WORD), scale)
            return values
        else:
            raw = cast("np.ndarray", self._bits.random_raw(-(-size // 4)))
            words = raw.astype("<u8", copy=False).view("<u2")[:size]
            kept = np.greater_equal(words, np.uint16(round(p * WORD)), out=self._kept[:size])
            np.multiply(kept, np.float32(scale), out=factors.numpy(), dtype=np.float32)
        return values.mul_(factors.view_as(values))
