"""Masks that drop or keep, a bit for each value: what is kept for the next time, and shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

# Bits of a word, which is read and written as a whole.
_WORD = 64


@dataclass(frozen=True)
class Packed:
    """The masks (S, size) of one site: unit k is kept, and multiplied by `scale`, where in a
    sample's `bits` (S, words), int64, bit k % 8 of byte k // 8 is set, the lowest one first."""

    bits: Tensor
    size: int
    scale: float

    @classmethod
    def of(cls, kept: np.ndarray, scale: float) -> Packed:
        """From booleans (S, size)."""
        bits = empty_bits(*kept.shape).zero_()
        packed = np.packbits(kept, axis=1, bitorder="little")
        bits.numpy().view(np.uint8)[:, : packed.shape[1]] = packed
        return cls(bits, kept.shape[1], scale)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bits.shape[0], self.size

    def __getitem__(self, samples: slice) -> Packed:
        return Packed(self.bits[samples], self.size, self.scale)

    def to(self, device: torch.device) -> Packed:
        return Packed(self.bits.to(device), self.size, self.scale)

    def unpack(self) -> Tensor:
        """The masks (S, size), float32, on the device of their bits."""
        if self.bits.device.type == "cpu":
            octets = self.bits.numpy().view(np.uint8)
            kept = np.unpackbits(octets, axis=1, count=self.size, bitorder="little")
            return torch.from_numpy(np.multiply(kept, self.scale, dtype=np.float32))
        return self.unpack_by_torch()

    def unpack_by_torch(self) -> Tensor:
        """The same by operations that any device has."""
        places = torch.arange(8, dtype=torch.uint8, device=self.bits.device)
        is_kept = (self.bits.view(torch.uint8)[:, :, None] >> places & 1).flatten(1)
        return is_kept[:, : self.size].float() * self.scale


# The masks of some samples before each layer; noise that does not only drop or keep is (S, size)
# float32; None is no noise.
Mask = Tensor | Packed
Masks = Sequence[Mask | None]


def empty_bits(n_samples: int, size: int) -> Tensor:
    """Room for the bits of masks (S, size)."""
    return torch.empty((n_samples, -(-size // _WORD)), dtype=torch.int64)


def unpacked(masks: Masks) -> list[Tensor | None]:
    """Their values, float32."""
    return [mask.unpack() if isinstance(mask, Packed) else mask for mask in masks]


def bits_of(mask: Mask) -> Tensor:
    """The tensor that holds a mask."""
    return mask.bits if isinstance(mask, Packed) else mask


def with_bits(mask: Mask, bits: Tensor) -> Mask:
    """The same kind of mask, held by another tensor."""
    return replace(mask, bits=bits) if isinstance(mask, Packed) else bits


def count_samples(masks: Masks) -> int:
    """Of masks that are not all None."""
    return next(mask.shape[0] for mask in masks if mask is not None)


def join(parts: Masks) -> Mask | None:
    """Masks of one site, of consecutive samples, as one."""
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    if isinstance(first, Packed):
        bits = torch.cat([part.bits for part in parts if isinstance(part, Packed)])
        return Packed(bits, first.size, first.scale)
    return torch.cat([part for part in parts if isinstance(part, Tensor)])
