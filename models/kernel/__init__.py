"""The arithmetic of one processor, compiled: masks, thinned networks, linearisation, summaries.

Installing Dropcast compiles it where there is a C compiler. Where there is none, and for networks
that it does not know (`Weights.of`), torch and NumPy compute the same, slower where numbers are
few. Both give the same answers up to rounding, and the same masks to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array, byref, c_double, c_float
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from models.kernel.library import Question, Rules, array_of, check, compiled, is_available
from models.kernel.noise import Noise, fill_masks
from models.kernel.rows import read_rows
from models.kernel.sharing import share
from models.kernel.weights import Weights
from models.packed import Masks, count_samples

__all__ = [
    "Asked",
    "Rules",
    "Weights",
    "fill_masks",
    "is_available",
    "mixture_quantiles",
    "read_rows",
    "summarise",
    "summarise_samples",
]

# What a quantile costs of each of its samples, in multiply-adds.
QUANTILE_PRODUCTS = 4_000


def mixture_quantiles(means: np.ndarray, stds: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The quantiles (N, Q) of N equal mixtures of T Gaussians, from (N, T) means and stds."""
    means, stds = (np.ascontiguousarray(each, dtype=np.float64) for each in (means, stds))
    n_rows, n_samples = means.shape
    out = np.empty((n_rows, len(levels)))
    asked, normal = _levels(tuple(levels))

    def find(rows: slice) -> None:
        compiled().mixture_quantiles(
            means[rows].ctypes.data, stds[rows].ctypes.data, rows.stop - rows.start, n_samples,
            asked, normal, len(levels), out[rows].ctypes.data,
        )  # fmt: skip

    share(n_rows, n_samples * len(levels) * QUANTILE_PRODUCTS, find)
    return out


def summarise(
    raw: Tensor,
    conditional: Tensor,
    linear: Tensor,
    known: np.ndarray | None,
    propagated: Tensor,
    rules: Rules,
    levels: Sequence[float],
    *,
    is_gaussian: bool,
) -> np.ndarray:
    """Mean, epistemic std, aleatoric std, standard error and quantiles (N, 4 + Q), in units of the
    standardised target: what `models.variance_reduction` makes of `Reduced`, whose arrays these
    are."""
    n_samples, n_rows, n_out = raw.shape
    known = None if known is None else np.ascontiguousarray(known)
    raw, conditional, linear = raw.contiguous(), conditional.contiguous(), linear.contiguous()
    propagated = propagated.contiguous()
    out = np.empty((n_rows, 4 + len(levels)))
    asked, normal = _levels(tuple(levels))

    def summarise(rows: slice) -> None:
        check(
            compiled().summarise(
                raw.data_ptr(), conditional.data_ptr(), linear.data_ptr(),
                None if known is None else known.ctypes.data, propagated.data_ptr(),
                n_rows, rows.start, rows.stop, n_samples, n_out, is_gaussian, byref(rules),
                asked, normal, len(levels), out.ctypes.data,
            )
        )  # fmt: skip

    share(n_rows, n_samples * (1 + len(levels)) * QUANTILE_PRODUCTS, summarise)
    return out


def summarise_samples(raw: Tensor, levels: Sequence[float]) -> np.ndarray:
    """The same of independent samples (T, N, K), without a control variate."""
    raw = raw.contiguous()
    n_samples, n_rows, n_out = raw.shape
    out = np.empty((n_rows, 4 + len(levels)))
    asked, normal = _levels(tuple(levels))

    def summarise(rows: slice) -> None:
        check(
            compiled().summarise_samples(
                raw.data_ptr(), n_rows, rows.start, rows.stop, n_samples, n_out,
                asked, normal, len(levels), out.ctypes.data,
            )
        )  # fmt: skip

    share(n_rows, n_samples * (1 + len(levels)) * QUANTILE_PRODUCTS, summarise)
    return out


class Asked:
    """What is asked of a regression, whatever the rows, laid out for compiled code.

    `site` is the first noisy layer, `masks` are those before each layer, or None, `moments` mean
    and variance of each layer's noise, `scale` is that of `Weights.make_whole`, or 0. `reduced`
    says whether the linearisation is a control variate, whether its mean counts, and by which
    rules."""

    def __init__(
        self,
        weights: Weights,
        moments: tuple[tuple[float, float], ...],
        site: int,
        masks: Masks,
        levels: Sequence[float],
        reduced: tuple[bool, bool, Rules] | None,
        scale: float,
    ) -> None:
        self._weights, self._width = weights, 4 + len(levels)
        self._noise = Noise(masks)
        is_controlled, is_gaussian, rules = reduced or (False, False, Rules())
        self._question = Question(
            site, count_samples(masks), reduced is not None, is_controlled, is_gaussian, scale,
            *_noise(moments), self._noise.address(),
            rules, len(levels), *_levels(tuple(levels)),
        )  # fmt: skip

    def answer(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For inputs (N, D) the summary (N, 4 + Q), as `summarise_samples` or, if `reduced`, as
        `summarise` gives it, and the raw outputs (N, K) without noise."""
        x, n_out = self._weights.checked_array(x), self._weights.sizes[-1]
        out = array_of(c_double, len(x) * self._width)()
        plain = array_of(c_float, len(x) * n_out)()
        check(
            compiled().answer(
                self._weights.address, byref(self._question), x.tobytes(), len(x), out, plain
            )
        )
        return (
            np.ndarray((len(x), self._width), np.float64, out),
            np.ndarray((len(x), n_out), np.float32, plain),
        )


@lru_cache(1024)
def _noise(moments: tuple[tuple[float, float], ...]) -> tuple[Array[c_float], Array[c_float]]:
    """Means, and variances."""
    means, variances = zip(*moments, strict=True)
    kind = c_float * len(moments)
    return kind(*means), kind(*variances)


@lru_cache(1024)
def _levels(levels: tuple[float, ...]) -> tuple[Array[c_double], Array[c_double]]:
    """They, and the quantiles of a standard Gaussian there."""
    normal = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).tolist()
    kind = c_double * len(levels)
    return kind(*levels), kind(*normal)
