"""What a step of training does beside its matrix products, on the CPU."""

from __future__ import annotations

from ctypes import byref

import numpy as np
from torch import Tensor

from models.kernel.library import Step, compiled
from models.kernel.noise import generator_state
from models.mlp import LOG_VARIANCE_RANGE

__all__ = ["Step", "descend", "drop_values", "squared_error"]


def drop_values(bits: np.random.PCG64DXSM, values: Tensor, threshold: int, scale: float) -> None:
    """Multiplies values by the scale where the next 16-bit word reaches the threshold, otherwise by
    0. The generator is left behind these words."""
    n = values.numel()
    compiled().drop_values(generator_state(bits), n, threshold, scale, values.data_ptr())
    bits.advance(-(-n // 4))


def squared_error(raw: Tensor, truth: Tensor, gradient: Tensor) -> float:
    """The mean squared error of raw outputs (N, 2C) against true values (N,); fills in the gradient
    (N, 2C) of `WrittenGradient`."""
    n_rows, n_out = raw.shape
    loss: float = compiled().squared_error(
        raw.data_ptr(), truth.data_ptr(), n_rows, n_out, n_out // 2, *LOG_VARIANCE_RANGE,
        gradient.data_ptr(),
    )  # fmt: skip
    return loss


def descend(
    values: Tensor, gradients: Tensor, means: Tensor, squares: Tensor, average: Tensor, step: Step
) -> None:
    """One step of AdamW for values (n,) along their gradients, shortened before that; it moves the
    moments of these, and the values' running mean, too."""
    places = (each.data_ptr() for each in (values, gradients, means, squares, average))
    compiled().descend(*places, values.numel(), byref(step))
