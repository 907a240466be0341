"""Masks drawn lately, kept: most requests ask for the same seed and T, and masks belong to those
and not to rows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from models.cancellation import stop_if_cancelled
from models.masks import Stream
from models.packed import Masks, join

# Share of the cache that the masks of one draw may take.
_MOST_OF_ONE = 1 / 4
# Draws that are kept, however small: each may lie between weights of networks that are gone, and
# keep their memory from being given back.
MOST_DRAWS = 256


class MaskCache:
    """The masks of as many draws as fit, those that were asked for last; for several threads."""

    def __init__(self, most_bytes: int = 2**24) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Masks, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def stream(
        self,
        key: Hashable,
        n_samples: int,
        bytes_per_sample: int,
        make: Callable[[], Stream],
        samples_per_block: int | None = None,
    ) -> Stream:
        """A stream whose first `n_samples` samples are those of `make()`: from the cache, or
        drawn block by block and put there, unless they are too many. `key` has to name them."""
        n_bytes = n_samples * bytes_per_sample
        if n_bytes > self._most_bytes * _MOST_OF_ONE:
            return make()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return _Replay(kept[0], n_samples)
        masks = _draw(make(), n_samples, samples_per_block or n_samples)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = masks, n_bytes
                self._bytes += n_bytes
            while self._bytes > self._most_bytes or len(self._kept) > MOST_DRAWS:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed
        return _Replay(masks, n_samples)


def _draw(stream: Stream, n_samples: int, samples_per_block: int) -> Masks:
    blocks = []
    for begin in range(0, n_samples, samples_per_block):
        stop_if_cancelled()
        blocks.append(stream.draw(min(samples_per_block, n_samples - begin)))
    return blocks[0] if len(blocks) == 1 else [join(site) for site in zip(*blocks, strict=True)]


class _Replay(Stream):
    """Masks that exist already, as a stream."""

    def __init__(self, masks: Masks, n_samples: int) -> None:
        self._masks = masks
        self._n_samples = n_samples
        self._drawn = 0

    def draw(self, n_samples: int) -> Masks:
        samples = slice(self._drawn, self._drawn + n_samples)
        self._drawn = samples.stop
        if samples.start == 0 and n_samples == self._n_samples:
            return self._masks
        return [mask if mask is None else mask[samples] for mask in self._masks]
