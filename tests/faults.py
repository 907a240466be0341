"""Faults of masks, planted to see whether a check notices them."""

from collections.abc import Callable

import pytest

from models.masks import Stream
from models.packed import unpacked

# From a stream and a number of samples to their masks.
Take = Callable[..., list]


def plant(
    monkeypatch: pytest.MonkeyPatch, stream: type[Stream], fault: Callable[[Take], Take]
) -> None:
    """From now on such streams give what the fault makes of a function that gives values."""
    draw = stream.draw
    monkeypatch.setattr(stream, "draw", fault(lambda self, n: unpacked(draw(self, n))))
