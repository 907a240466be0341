"""Seeded masks: the noise of T thinned networks, the same bits on every device.

A seed names one endless table of 32-bit words, a row for each sample. A sample's noise
depends on the seed, its number and the sizes of the layers: not on T, on the rows it
meets, or on how the work is cut. Words are drawn on the CPU and shipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models.dropout import inverted_scale
from models.mlp import DropoutKind

WORD = 2.0**32


@dataclass(frozen=True)
class NoiseSite:
    """A place where noise multiplies: `size` units (or weights, for DropConnect)."""

    kind: DropoutKind
    p: float
    size: int
    temperature: float = 0.1

    @property
    def is_active(self) -> bool:
        return self.p > 0.0


class MaskStream:
    """The masks of consecutive samples at every active site, scaled by 1/(1-p).

    `take(n)` gives the next n samples: for each site a float32 tensor (n, size) on
    `device`, or None where p = 0, for which nothing is drawn.
    """

    def __init__(
        self,
        sites: tuple[NoiseSite, ...],
        seed: int,
        *,
        first: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sites = sites
        self._device = torch.device(device)
        # An even width keeps every sample on a boundary of the generator's 64-bit words.
        active = sum(site.size for site in sites if site.is_active)
        self._width = active + active % 2
        self._bits = np.random.PCG64DXSM(np.random.SeedSequence(seed))
        if first:
            self._bits.advance(first * self._width // 2)

    def take(self, n_samples: int) -> list[Tensor | None]:
        raw = cast("np.ndarray", self._bits.random_raw(n_samples * self._width // 2))
        words = raw.astype("<u8", copy=False).view("<u4").reshape(n_samples, self._width)
        masks: list[Tensor | None] = []
        column = 0
        for site in self._sites:
            if not site.is_active:
                masks.append(None)
                continue
            noise = _noise(site, words[:, column : column + site.size])
            masks.append(torch.from_numpy(noise).to(self._device))
            column += site.size
        return masks


def _noise(site: NoiseSite, words: np.ndarray) -> np.ndarray:
    """Multiplicative noise (n, size), float32, from uniform 32-bit words of that shape."""
    if site.p == 1.0:
        return np.zeros(words.shape, dtype=np.float32)
    if site.kind in ("bernoulli", "dropconnect"):
        threshold = np.uint32(min(round(site.p * WORD), 2**32 - 1))
        return np.multiply(words >= threshold, inverted_scale(site.p), dtype=np.float32)
    uniform = (words.astype(np.float64) + 0.5) / WORD
    if site.kind == "gaussian":
        normal = torch.special.ndtri(torch.from_numpy(uniform)).numpy()
        noise = 1.0 + math.sqrt(site.p / (1.0 - site.p)) * normal
    else:
        log_odds = math.log(site.p / (1.0 - site.p)) + np.log(uniform) - np.log1p(-uniform)
        kept = 1.0 / (1.0 + np.exp(np.clip(log_odds / site.temperature, -80.0, 80.0)))
        noise = kept * inverted_scale(site.p)
    return np.asarray(noise, dtype=np.float32)
