"""A network's weights as compiled code reads them, and what it computes with them."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_float, c_int64, c_void_p
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.kernel.library import Mask, Network, array_of, check, compiled, is_available
from models.kernel.noise import WIDTH, Noise
from models.kernel.sharing import share
from models.mlp import LOG_VARIANCE_RANGE, MLPConfig
from models.packed import Masks, count_samples


class Weights:
    """A network's weights as the kernel reads them, which keeps copies of its own."""

    def __init__(
        self, config: MLPConfig, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> None:
        self.sizes = (config.in_features, *config.hidden, config.raw_features)
        self.is_regression = config.head == "regression"
        panels = [
            _filled(weight[:, :size], 1).reshape(len(weight), -1, WIDTH).transpose(0, 1)
            for weight, size in zip(weights, self.sizes[1:], strict=True)
        ]
        readout = _filled(weights[-1][:, : self.sizes[-1]].t(), 1)
        filled = [
            _filled(bias[:size], 0) for bias, size in zip(biases, self.sizes[1:], strict=True)
        ]
        self._kept = [part.contiguous() for part in (*panels, *filled, readout)]
        addresses = [part.data_ptr() for part in self._kept]
        n = len(panels)
        self._network = Network(
            n,
            (c_int64 * (n + 1))(*self.sizes),
            (c_void_p * n)(*addresses[:n]),
            (c_void_p * n)(*addresses[n : 2 * n]),
            addresses[-1] if self.is_regression else None,
            *LOG_VARIANCE_RANGE,
        )
        self.address = byref(self._network)
        self._no_masks = (Mask * n)()

    @classmethod
    def of(
        cls, config: MLPConfig, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> Weights | None:
        """Those of a network on the CPU that drops units and has ReLUs; of others none."""
        is_known = config.activation == "relu" and config.dropout != "dropconnect"
        if not is_known or weights[0].device.type != "cpu" or not is_available():
            return None
        return cls(config, weights, biases)

    @cached_property
    def products_per_row(self) -> int:
        """Multiply-adds of one pass over one row."""
        return sum(a * b for a, b in zip(self.sizes, self.sizes[1:], strict=False))

    def checked(self, x: Tensor) -> Tensor:
        """Inputs (N, D) as compiled code reads them, which looks at no shape.

        Raises:
            ValueError: they are not D wide.
        """
        if x.dim() != 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"inputs of {self.sizes[0]} columns are due, not {tuple(x.shape)}")
        x = x if x.dtype is torch.float32 else x.float()
        return x if x.is_contiguous() else x.contiguous()

    def checked_array(self, x: np.ndarray) -> np.ndarray:
        """The same of arrays; raises as `checked` does."""
        if x.ndim != 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"inputs of {self.sizes[0]} columns are due, not {x.shape}")
        return np.ascontiguousarray(x, dtype=np.float32)

    def forward(self, x: Tensor, n_layers: int) -> Tensor:
        """What reaches the layer of that number without noise, (N, H), from inputs (N, D)."""
        x, out = self.checked(x), torch.empty((x.shape[0], self.sizes[n_layers]))
        check(compiled().forward(self.address, n_layers, x.data_ptr(), x.shape[0], out.data_ptr()))
        return out

    def predict(self, x: Tensor) -> Tensor:
        """Raw outputs (N, K) without noise, from inputs (N, D)."""
        return torch.from_numpy(self.predict_array(x.numpy()))

    def predict_array(self, x: np.ndarray) -> np.ndarray:
        """The same of arrays."""
        x = self.checked_array(x)
        n_rows, n_out = len(x), self.sizes[-1]
        out = array_of(c_float, n_rows * n_out)()

        def predict(rows: slice) -> None:
            check(
                compiled().draw(
                    self.address, 0, x[rows].tobytes(), None, 0.0, rows.stop - rows.start, 1,
                    self._no_masks, None, byref(out, 4 * n_out * rows.start), None,
                )
            )  # fmt: skip

        share(n_rows, self.products_per_row, predict)
        return np.ndarray((n_rows, n_out), np.float32, out)

    def make_whole(self, site: int, activations: Tensor, scale: float) -> Tensor:
        """What the layer of that site says, (N, size filled up), of activations (N, H) none of
        which is dropped; kept ones are multiplied by the scale."""
        activations = activations.contiguous()
        n_rows = activations.shape[0]
        out = torch.empty((n_rows, -self.sizes[site + 1] // WIDTH * -WIDTH))
        compiled().make_whole(
            self.address, site, scale, activations.data_ptr(), n_rows, out.data_ptr(), None
        )
        return out

    def draw(
        self,
        site: int,
        activations: Tensor,
        whole: Tensor | None,
        scale: float,
        masks: Masks,
        noise: tuple[float, float],
        out: Tensor,
        conditional: Tensor | None,
    ) -> None:
        """As `models.sampling.draw_block`, from activations (N, H) that reach a site; `whole` is
        what `make_whole` gives for that scale, where it drops few units, and `noise` mean and
        variance of that before the last layer."""
        activations = activations.contiguous()

        def draw(samples: slice) -> None:
            if samples.stop - samples.start == out.shape[0]:
                self._draw(site, activations, whole, scale, masks, noise, out, conditional)
                return
            self._draw(
                site,
                activations,
                whole,
                scale,
                [None if mask is None else mask[samples] for mask in masks],
                noise,
                out[samples],
                None if conditional is None else conditional[samples],
            )

        share(out.shape[0], activations.shape[0] * self.products_per_row, draw)

    def _draw(
        self,
        site: int,
        activations: Tensor,
        whole: Tensor | None,
        scale: float,
        masks: Masks,
        noise: tuple[float, float],
        out: Tensor,
        conditional: Tensor | None,
    ) -> None:
        described = Noise(masks)
        check(
            compiled().draw(
                self.address,
                site,
                activations.data_ptr(),
                None if whole is None else whole.data_ptr(),
                scale,
                activations.shape[0],
                out.shape[0],
                described.address(),
                (c_float * 2)(*noise),
                out.data_ptr(),
                None if conditional is None else conditional.data_ptr(),
            )
        )

    def linearise(
        self,
        moments: Sequence[tuple[float, float]],
        site: int,
        end: int,
        activations: Tensor,
        n_outputs: int,
    ) -> Linearised:
        """The expansion of the first O raw outputs in the noise of the layers `site` … `end`,
        the last exclusive, from activations (N, H) that reach the first of them; `moments` are
        mean and variance of each layer's noise."""
        activations, n_rows = activations.contiguous(), activations.shape[0]
        means, variances = (
            (c_float * len(moments))(*column) for column in zip(*moments, strict=True)
        )
        # In the numbers that compiled code compares: a tiny variance is none there.
        noisy = tuple(i for i in range(site, end) if variances[i] > 0.0)
        n_units = sum(self.sizes[i] for i in noisy)
        mean = torch.empty((n_rows, self.sizes[-1]))
        sensitivity = torch.empty((n_rows, n_outputs, n_units))
        covariance = np.empty((n_rows, n_outputs, n_outputs))

        def linearise(rows: slice) -> None:
            check(
                compiled().linearise(
                    self.address, means, variances, site, end,
                    activations[rows].data_ptr(), rows.stop - rows.start, n_outputs, n_units,
                    mean[rows].data_ptr(), sensitivity[rows].data_ptr(),
                    covariance[rows].ctypes.data,
                )
            )  # fmt: skip

        share(n_rows, (2 + n_outputs) * self.products_per_row, linearise)
        sizes = tuple(self.sizes[i] for i in noisy)
        centres = tuple(moments[i][0] for i in noisy)
        return Linearised(mean, covariance, noisy, sizes, centres, sensitivity)


@dataclass(frozen=True)
class Linearised:
    """`models.linearisation.Linearisation`, computed: `mean` (N, K) of the raw outputs,
    `covariance` (N, O, O) of the linear part, and how it follows the noise at the `noisy` sites."""

    mean: Tensor
    covariance: np.ndarray
    noisy: tuple[int, ...]
    _sizes: tuple[int, ...]
    _centres: tuple[float, ...]
    _sensitivity: Tensor

    def linear_part(self, masks: Masks) -> Tensor:
        """Σ c · (noise - mean) for S masks of each site, (S, N, O)."""
        n_rows, n_outputs, n_units = self._sensitivity.shape
        n_samples, noise = count_samples(masks), Noise(masks)
        total = torch.zeros((n_samples, n_rows, n_outputs))
        offset = 0
        for i, size, centre in zip(self.noisy, self._sizes, self._centres, strict=True):
            compiled().add_linear_part(
                self._sensitivity.data_ptr() + 4 * offset, n_units, n_rows * n_outputs,
                noise.address(i), size, n_samples, centre, total.data_ptr(),
            )  # fmt: skip
            offset += size
        return total


def _filled(matrix: Tensor, dim: int) -> Tensor:
    """With zeros up to a multiple of a panel's columns, behind, along that dimension."""
    missing = -matrix.shape[dim] % WIDTH
    return torch.cat([matrix, matrix.new_zeros((*matrix.shape[:dim], missing))], dim)
