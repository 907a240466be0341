"""Seeded masks: the noise of T thinned networks, the same bits on every device.

A seed names one endless table of 32-bit words, a row for each sample. A sample's noise
depends on the seed, its number and the sizes of the layers: not on T, on the rows it
meets, or on how the work is cut. Words are drawn on the CPU, and masks shipped from there
(`models.packed`). Stratified masks depend on the size of their designs, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models import kernel
from models.dropout import inverted_scale
from models.mlp import DropoutKind
from models.packed import Mask, Masks, Packed, join, unpacked

WORD = 2.0**32
# Permutations that the units of a stratified design share.
_ORDERS = 64


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

    @property
    def is_binary(self) -> bool:
        """Whether its noise drops or keeps, and nothing between."""
        return self.kind in ("bernoulli", "dropconnect") or self.p in (0.0, 1.0)

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of the noise; of the concrete kind by a sum over log odds."""
        if not self.is_active:
            return 1.0, 0.0
        if self.p == 1.0:
            return 0.0, 0.0
        if self.kind != "concrete":
            return 1.0, self.p / (1.0 - self.p)
        # Of the uniform number that a value comes from: its log odds are logistic.
        log_odds = np.linspace(-45.0, 45.0, 2**15 + 1)
        weights = np.exp(-np.abs(log_odds)) / (1.0 + np.exp(-np.abs(log_odds))) ** 2
        weights /= weights.sum()
        noise = _concrete_noise(self, log_odds)
        mean = float(weights @ noise)
        return mean, float(weights @ (noise - mean) ** 2)


class Stream(ABC):
    """Where masks come from: each call gives those of the next samples, for each site those of
    its units, None where p = 0, for which nothing is drawn."""

    @abstractmethod
    def draw(self, n_samples: int) -> Masks:
        """Bits of noise that drops or keeps."""

    def take(self, n_samples: int) -> list[Tensor | None]:
        """The values of the same, float32 (n, size)."""
        return unpacked(self.draw(n_samples))


class MaskStream(Stream):
    """The masks of consecutive samples at every active site, scaled by 1/(1-p), on a device."""

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

    def draw(self, n_samples: int) -> Masks:
        active = [site for site in self._sites if site.is_active]
        drawn: Sequence[Mask]
        if kernel.is_available() and all(site.is_binary for site in active):
            described = [(site.size, _threshold(site.p), _scale(site)) for site in active]
            drawn = kernel.fill_masks(self._bits, n_samples, self._width, described)
        else:
            drawn = self._draw_words(n_samples, active)
        masks = iter(drawn)
        return [next(masks).to(self._device) if site.is_active else None for site in self._sites]

    def _draw_words(self, n_samples: int, active: Sequence[NoiseSite]) -> Sequence[Mask]:
        raw = cast("np.ndarray", self._bits.random_raw(n_samples * self._width // 2))
        words = raw.astype("<u8", copy=False).view("<u4").reshape(n_samples, self._width)
        ends = list(accumulate(site.size for site in active))
        return [
            _noise(site, words[:, end - site.size : end])
            for site, end in zip(active, ends, strict=True)
        ]


class StratifiedStream(Stream):
    """Masks like those of `MaskStream`, stratified: of the n samples of one design each unit
    meets every n-th part of its noise distribution once.

    A single sample's masks are distributed as independent ones, units independent of each
    other; over a design the effect of each unit alone cancels in a mean. A unit's order of
    strata is one of `_ORDERS` permutations, begun anywhere: pairs of units that share one are
    too few to matter, and a table of them stays in the cache where a permutation for each
    unit would not.
    Source: McKay, Beckman & Conover 1979 (Latin hypercube sampling).
    """

    def __init__(
        self,
        sites: tuple[NoiseSite, ...],
        seed: int,
        *,
        samples_per_design: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sites = sites
        self._seed = seed
        self._n = samples_per_design
        self._device = torch.device(device)
        self._active = sum(site.size for site in sites if site.is_active)
        self._width = self._active + self._active % 2
        self._taken = 0

    def draw(self, n_samples: int) -> Masks:
        parts = []
        while n_samples:
            at = self._taken % self._n
            if at == 0:
                self._begin_design(self._taken // self._n)
            count = min(n_samples, self._n - at)
            parts.append(self._draw_within_design(at, count))
            self._taken += count
            n_samples -= count
        return [join(site) for site in zip(*parts, strict=True)]

    def _begin_design(self, number: int) -> None:
        n = self._n
        seeds = np.random.SeedSequence(self._seed, spawn_key=(n, number))
        self._bits = np.random.PCG64DXSM(seeds)
        order = self._words(_ORDERS, n).argsort(axis=1, kind="stable")
        # Twice, so that a turned order is a slice.
        self._strata = np.concatenate([order, order], axis=1).astype(np.int32).reshape(-1)
        which, turn, self._rounding = self._words(3, self._width)[:, : self._active]
        self._begin = 2 * n * (which.astype(np.int64) % _ORDERS)
        self._begin += (turn.astype(np.int64) * n) >> 32

    def _draw_within_design(self, first: int, count: int) -> Masks:
        strata = self._strata.take(np.arange(first, first + count)[:, None] + self._begin)
        if any(site.kind in ("gaussian", "concrete") for site in self._sites):
            within = (self._words(count, self._width)[:, : self._active] + 0.5) / WORD
            uniform = (strata + within) / self._n
        else:
            uniform = strata
        masks: list[Mask | None] = []
        column = 0
        for site in self._sites:
            if not site.is_active:
                masks.append(None)
                continue
            units = slice(column, column + site.size)
            mask = self._noise(site, uniform[:, units], self._rounding[units])
            masks.append(mask.to(self._device))
            column += site.size
        return masks

    def _noise(self, site: NoiseSite, places: np.ndarray, rounding: np.ndarray) -> Mask:
        if not site.is_binary:
            return _noise_at(site, places)
        # p of n samples are dropped, a fraction of one by chance.
        dropped, rest = divmod(site.p * self._n, 1.0)
        threshold = int(dropped) + (rounding < rest * WORD)
        return Packed.of(places >= threshold, _scale(site))

    def _words(self, rows: int, columns: int) -> np.ndarray:
        """(rows, columns) 32-bit words; their number is even, as a generator's word is 64."""
        raw = cast("np.ndarray", self._bits.random_raw(rows * columns // 2))
        return raw.astype("<u8", copy=False).view("<u4").reshape(rows, columns)


def _noise(site: NoiseSite, words: np.ndarray) -> Mask:
    """Multiplicative noise (n, size) from uniform 32-bit words of that shape."""
    if site.is_binary:
        return Packed.of(words >= np.uint32(_threshold(site.p)), _scale(site))
    return _noise_at(site, (words.astype(np.float64) + 0.5) / WORD)


def _scale(site: NoiseSite) -> float:
    """The factor of what is kept: nothing at p = 1."""
    return 0.0 if site.p == 1.0 else inverted_scale(site.p)


def _threshold(p: float) -> int:
    """The 32-bit words below it drop."""
    return min(round(p * WORD), 2**32 - 1)


def _noise_at(site: NoiseSite, uniform: np.ndarray) -> Tensor:
    """Gaussian or concrete noise, float32, from uniform numbers inside (0, 1)."""
    if site.kind == "gaussian":
        normal = torch.special.ndtri(torch.from_numpy(uniform)).numpy()
        noise = 1.0 + math.sqrt(site.p / (1.0 - site.p)) * normal
    else:
        noise = _concrete_noise(site, np.log(uniform) - np.log1p(-uniform))
    return torch.from_numpy(np.asarray(noise, dtype=np.float32))


def _concrete_noise(site: NoiseSite, log_odds: np.ndarray) -> np.ndarray:
    """Relaxed Bernoulli noise from log odds of uniform numbers (Gal et al. 2017, equation 5)."""
    shifted = math.log(site.p / (1.0 - site.p)) + log_odds
    kept = 1.0 / (1.0 + np.exp(np.clip(shifted / site.temperature, -80.0, 80.0)))
    return np.asarray(kept * inverted_scale(site.p))
