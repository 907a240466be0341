"""Masks as compiled code reads them, and as it draws them."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array, addressof, c_uint64, sizeof

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from models.kernel.library import Mask, Site, check, compiled
from models.packed import Masks, Packed, empty_bits

# Columns of a panel of weights.
WIDTH = 16


class Noise:
    """The masks of all layers, kept as long as compiled code may read them."""

    def __init__(self, masks: Masks) -> None:
        self._kept = [_filled(mask) if isinstance(mask, Tensor) else mask for mask in masks]
        self._described = (Mask * len(masks))()
        for mask, described in zip(self._kept, self._described, strict=True):
            if isinstance(mask, Packed):
                described.bits, described.scale = mask.bits.data_ptr(), mask.scale
                described.stride = mask.bits.shape[1]
            elif mask is not None:
                described.values, described.stride = mask.data_ptr(), mask.shape[1]

    def address(self, layer: int = 0) -> int:
        """Where those from that layer on are described."""
        return addressof(self._described) + layer * sizeof(Mask)


def _filled(values: Tensor) -> Tensor:
    """Each row with zeros behind, up to a multiple of a panel's columns."""
    return F.pad(values, (0, -values.shape[1] % WIDTH)).contiguous()


def fill_masks(
    bits: np.random.PCG64DXSM,
    n_samples: int,
    width: int,
    sites: Sequence[tuple[int, int, float]],
) -> list[Packed]:
    """The masks of the next samples, for sites of a size each, a threshold below which a 32-bit
    word drops, and a scale of what is kept; a sample takes `width` words, an even number. The
    generator is left behind them."""
    masks = [Packed(empty_bits(n_samples, size), size, scale) for size, _, scale in sites]
    described = [
        Site(mask.size, mask.bits.shape[1], threshold, mask.bits.data_ptr())
        for mask, (_, threshold, _) in zip(masks, sites, strict=True)
    ]
    state = generator_state(bits)
    check(
        compiled().fill_masks(state, n_samples, width, (Site * len(sites))(*described), len(sites))
    )
    bits.advance(n_samples * width // 2)
    return masks


def generator_state(bits: np.random.PCG64DXSM) -> Array[c_uint64]:
    """State and increment, high halves first."""
    state = bits.state["state"]
    halves = [part for number in (state["state"], state["inc"]) for part in divmod(number, 2**64)]
    return (c_uint64 * 4)(*halves)
