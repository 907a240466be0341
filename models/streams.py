"""Where the masks of a plan come from, and how they get to a GPU: as bits.

There noise that drops or keeps is one bit for each unit, a thirty-second of the bytes: packed on
the CPU, kept so, and unpacked by what computes with it. Unit u is bit u mod 8 of byte u div 8,
counted from the lowest. Other noise is copied as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.dropout import inverted_scale
from models.mask_cache import Masks, Stream
from models.masks import MaskStream, NoiseSite, StratifiedStream
from models.plan import Plan


def open_stream(
    plan: Plan,
    seed: int,
    n_samples: int,
    *,
    first: int = 0,
    samples_per_design: int | None = None,
    is_whole: bool = True,
) -> Stream:
    """The masks that a seed names, independent ones or stratified in designs of that size; kept
    for the next time where all of them are going to be used."""
    is_packed = plan.graphs is not None

    def make() -> Stream:
        stream: Stream
        if samples_per_design is None:
            stream = MaskStream(plan.sites, seed, first=first)
        else:
            stream = StratifiedStream(plan.sites, seed, samples_per_design=samples_per_design)
        return Shipped(stream, plan.sites, plan.device) if is_packed else stream

    if not is_whole:
        return make()
    key = (plan.sites, plan.device, is_packed, seed, n_samples, first, samples_per_design)
    return plan.masks.stream(key, n_samples, plan.mask_bytes, make)


class Shipped:
    """A stream's masks on another device; binary ones (n, ⌈size/8⌉) uint8, see `unpack`."""

    def __init__(
        self, stream: Stream, sites: tuple[NoiseSite, ...], device: torch.device | str
    ) -> None:
        self._stream = stream
        self._sites = sites
        self._device = device

    def take(self, n_samples: int) -> Masks:
        return [
            None if mask is None else (pack(mask) if site.is_binary else mask).to(self._device)
            for site, mask in zip(self._sites, self._stream.take(n_samples), strict=True)
        ]


def pack(mask: Tensor) -> Tensor:
    """What a mask (n, size) on the CPU keeps, as bits (n, ⌈size/8⌉)."""
    return torch.from_numpy(np.packbits(mask.numpy() != 0.0, axis=1, bitorder="little"))


def unpack(sites: Sequence[NoiseSite], masks: Sequence[Tensor | None]) -> Masks:
    """Masks (n, size), float32, of each site, the same to the bit as before they were packed;
    those that were not are left as they are."""
    return [
        _unpack(site, mask) if mask is not None and mask.dtype is torch.uint8 else mask
        for site, mask in zip(sites, masks, strict=True)
    ]


def _unpack(site: NoiseSite, mask: Tensor) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=mask.device)
    bits = mask.unsqueeze(2).bitwise_right_shift(places).bitwise_and_(1)
    return bits.flatten(1)[:, : site.size].float().mul_(inverted_scale(site.p))
