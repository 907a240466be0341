"""Masks drawn lately, kept: most requests ask for the same seed and T, and masks belong to those
and not to rows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

from torch import Tensor

Masks = list[Tensor | None]

# Share of the cache that the masks of one draw may take.
_MOST_OF_ONE = 1 / 4


class Stream(Protocol):
    """Where masks come from: each call gives those of the next samples, (n, size) a site."""

    def take(self, n_samples: int) -> Masks: ...


class MaskCache:
    """The masks of as many draws as fit, those that were asked for last; for several threads."""

    def __init__(self, most_bytes: int = 2**25) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Masks] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def stream(
        self, key: Hashable, n_samples: int, bytes_per_sample: int, make: Callable[[], Stream]
    ) -> Stream:
        """A stream whose first `n_samples` samples are those of `make()`: from the cache, or
        drawn and put there, unless they are too many. `key` has to name them."""
        n_bytes = n_samples * bytes_per_sample
        if n_bytes > self._most_bytes * _MOST_OF_ONE:
            return make()
        with self._lock:
            masks = self._kept.get(key)
            if masks is not None:
                self._kept.move_to_end(key)
                return _Replay(masks)
        masks = make().take(n_samples)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = masks
                self._bytes += n_bytes
            while self._bytes > self._most_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= sum(m.numel() * m.element_size() for m in oldest if m is not None)
        return _Replay(masks)


class _Replay:
    """Masks that exist already, as a stream."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._taken = 0

    def take(self, n_samples: int) -> Masks:
        samples = slice(self._taken, self._taken + n_samples)
        self._taken = samples.stop
        return [
            mask if mask is None or mask.shape[0] == n_samples else mask[samples]
            for mask in self._masks
        ]
