"""Rows of numbers, straight from JSON."""

from __future__ import annotations

from ctypes import byref, c_double, c_int64
from typing import Any

import numpy as np

from models.kernel.library import compiled, is_available

Array = np.ndarray


def read_rows(body: bytes) -> Array | None:
    """(N, K) float64 of the text `{"instances": [[…], …]}`, the same numbers as of any reader of
    JSON; of a text that holds anything else, or without compiled code, none."""
    if not is_available():
        return None
    room, width = np.empty(len(body) // 2 + 1), c_int64()
    memory: Any = room
    found = byref(c_double.from_buffer(memory))
    n_rows = compiled().read_rows(body, len(body), found, byref(width))
    return room[: n_rows * width.value].reshape(n_rows, width.value) if n_rows else None
