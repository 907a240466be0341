"""What was compiled, loaded; the names are those of the C files beside this one."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int64, c_uint32, c_void_p
from functools import cache, lru_cache
from typing import Any

log = logging.getLogger(__name__)

# Of what is compiled; one that is left over from another version is not used.
VERSION = 10


class Network(Structure):
    """As in `network.h`."""

    _fields_ = (
        ("n_layers", c_int64),
        ("sizes", POINTER(c_int64)),
        ("panels", POINTER(c_void_p)),
        ("biases", POINTER(c_void_p)),
        ("readout", c_void_p),
        ("least_log_variance", c_float),
        ("most_log_variance", c_float),
    )


class Rules(Structure):
    """As in `rules.h`."""

    _fields_ = tuple(
        (name, c_double) for name in ("allowance", "doubt", "least_variance", "rounding")
    )


class Question(Structure):
    """As in `answer.c`."""

    _fields_ = (
        ("site", c_int64),
        ("n_samples", c_int64),
        ("is_reduced", c_int64),
        ("is_controlled", c_int64),
        ("is_gaussian", c_int64),
        ("scale", c_float),
        ("means", POINTER(c_float)),
        ("variances", POINTER(c_float)),
        ("masks", c_void_p),
        ("rules", Rules),
        ("n_levels", c_int64),
        ("levels", POINTER(c_double)),
        ("normal", POINTER(c_double)),
    )


class Step(Structure):
    """As in `training.c`."""

    _fields_ = (
        *(
            (name, c_double)
            for name in (
                "learning_rate", "weight_decay", "beta1", "beta2", "epsilon", "longest",
                "averaging",
            )
        ),
        ("n_decayed", c_int64),
        ("number", c_int64),
    )  # fmt: skip


class Site(Structure):
    """As in `masks.c`."""

    _fields_ = (("size", c_int64), ("words", c_int64), ("threshold", c_uint32), ("out", c_void_p))


class Mask(Structure):
    """As in `mask.h`."""

    _fields_ = (("bits", c_void_p), ("values", c_void_p), ("stride", c_int64), ("scale", c_float))


@lru_cache(1024)
def array_of(kind: Any, length: int) -> Any:
    """The type of so many numbers of that kind in memory that NumPy can look at, too. NumPy's own
    arrays take several times as long to tell their address."""
    return kind * length


@cache
def load() -> ctypes.CDLL | None:
    """What was compiled, if it was."""
    found = importlib.util.find_spec("models.kernel._native")
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
    except OSError as error:
        log.warning("the compiled kernel cannot be loaded: %s", error)
        return None
    if library.kernel_version() != VERSION:
        log.warning("the compiled kernel is of another version: install Dropcast again")
        return None
    pointer, count = c_void_p, c_int64
    library.draw.argtypes = [
        pointer, count, pointer, pointer, c_float, count, count, *[pointer] * 4,
    ]  # fmt: skip
    library.make_whole.argtypes = [pointer, count, c_float, pointer, count, pointer, pointer]
    library.forward.argtypes = [pointer, count, pointer, count, pointer]
    library.linearise.argtypes = (
        [pointer] * 3 + [count] * 2 + [pointer] + [count] * 3 + [pointer] * 3
    )
    library.add_linear_part.argtypes = [
        pointer, count, count, pointer, count, count, c_float, pointer,
    ]  # fmt: skip
    library.mixture_quantiles.argtypes = [
        pointer, pointer, count, count, pointer, pointer, count, pointer,
    ]  # fmt: skip
    library.fill_masks.argtypes = [pointer, count, count, pointer, count]
    library.summarise.argtypes = [*[pointer] * 5, *[count] * 6, *[pointer] * 3, count, pointer]
    library.summarise_samples.argtypes = [pointer, *[count] * 5, pointer, pointer, count, pointer]
    library.answer.argtypes = [pointer, pointer, pointer, count, pointer, pointer]
    library.drop_values.argtypes = [pointer, count, c_uint32, c_float, pointer]
    library.squared_error.argtypes = [
        pointer, pointer, count, count, count, c_float, c_float, pointer,
    ]  # fmt: skip
    library.squared_error.restype = c_double
    library.descend.argtypes = [*[pointer] * 5, count, pointer]
    library.drop_values.restype = library.descend.restype = None
    library.add_linear_part.restype = library.mixture_quantiles.restype = None
    library.make_whole.restype = None
    library.read_rows.argtypes = [c_char_p, count, pointer, pointer]
    library.read_rows.restype = count
    return library


def is_available() -> bool:
    """Whether it was compiled."""
    return load() is not None


def compiled() -> ctypes.CDLL:
    """It; what was not compiled is not asked for."""
    library = load()
    assert library is not None
    return library


def check(code: int) -> None:
    """Of what a function returned that takes memory."""
    if code != 0:
        raise MemoryError
