"""The arithmetic of one processor, compiled: thinned networks, linearisation, quantiles.

Installing Dropcast compiles it where there is a C compiler. Where there is none, and for networks
that it does not know (`Weights.of`), torch and NumPy compute the same, slower where numbers are
few. Both give the same answers up to rounding, and the same masks to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_double, c_uint64

import numpy as np
import torch
from torch import Tensor

from models.kernel.library import Site, check, compiled, is_available
from models.kernel.weights import Weights

__all__ = ["Weights", "fill_masks", "is_available", "mixture_quantiles"]


def fill_masks(
    bits: np.random.PCG64DXSM,
    n_samples: int,
    width: int,
    sites: Sequence[tuple[int, int, float]],
) -> list[Tensor]:
    """The masks (S, size) of the next samples, for sites of a size each, a threshold below which
    a 32-bit word drops, and a scale of what is kept; a sample takes `width` words, an even number.
    The generator is left behind them."""
    state = bits.state["state"]
    halves = [part for number in (state["state"], state["inc"]) for part in divmod(number, 2**64)]
    masks = [torch.empty((n_samples, size)) for size, _, _ in sites]
    described = [Site(*site, mask.data_ptr()) for site, mask in zip(sites, masks, strict=True)]
    check(
        compiled().fill_masks(
            (c_uint64 * 4)(*halves), n_samples, width, (Site * len(sites))(*described), len(sites)
        )
    )
    bits.advance(n_samples * width // 2)
    return masks


def mixture_quantiles(
    means: np.ndarray, stds: np.ndarray, levels: Sequence[float], normal: np.ndarray
) -> np.ndarray:
    """The quantiles (N, Q) of N equal mixtures of T Gaussians, from (N, T) means and stds and the
    quantiles (Q,) of a Gaussian at these levels."""
    means, stds = np.ascontiguousarray(means), np.ascontiguousarray(stds)
    out = np.empty((len(means), len(levels)))
    compiled().mixture_quantiles(
        means.ctypes.data, stds.ctypes.data, *means.shape,
        (c_double * len(levels))(*levels), normal.ctypes.data, len(levels), out.ctypes.data,
    )  # fmt: skip
    return out
