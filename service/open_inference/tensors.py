"""Tensors of the protocol: data types, and from what was sent to checked values.

Binary data are little-endian, row by row, without padding; a BYTES element is its length as
four bytes, and then that many. No size that a client states is believed: every one is held
against the bytes that are there before anything is read or allocated.
"""

from __future__ import annotations

import itertools
import math
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic_core import from_json

from models.features import describe_type
from service.errors import InvalidError

Array = np.ndarray

FLOATS: Mapping[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
INTEGERS: Mapping[str, np.dtype[Any]] = {
    f"{sign}INT{8 * size}": np.dtype(f"<{kind}{size}")
    for sign, kind in (("", "i"), ("U", "u"))
    for size in (1, 2, 4, 8)
}
NUMBERS: Mapping[str, np.dtype[Any]] = {**FLOATS, **INTEGERS}
_LENGTH = struct.Struct("<I")
# Bytes of one element; of BYTES at least.
_WIDTHS = {name: dtype.itemsize for name, dtype in NUMBERS.items()}
_WIDTHS |= {"BOOL": 1, "BYTES": _LENGTH.size}


@dataclass(frozen=True)
class Tensor:
    """One input as it was sent: `content` is binary data, or the list that stood in the JSON.

    `index` is its place among the inputs. `is_json` says that each text is JSON itself, as
    MLServer's codec writes a column that holds more than texts.
    """

    index: int
    name: str
    datatype: str
    shape: tuple[int, ...]
    content: memoryview | list[Any]
    is_json: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def fault(self, message: str, *place: str | int) -> InvalidError:
        """The error of this input, at that place in it."""
        detail = f"input {self.name[:64]!r}: {message}"
        return InvalidError(
            detail, errors=[{"loc": ["inputs", self.index, *place], "msg": message}]
        )


def check_size(tensor: Tensor) -> None:
    """Holds the shape against the binary data; JSON and BYTES say it when they are read.

    Raises:
        InvalidError: they do not fit.
    """
    if isinstance(tensor.content, list):
        return
    there = len(tensor.content)
    due = tensor.size * _WIDTHS[tensor.datatype]
    is_text = tensor.datatype == "BYTES"
    if due > there or (due < there and not is_text):
        message = f"{_words(tensor)} takes {'at least ' if is_text else ''}{due} bytes, not {there}"
        raise tensor.fault(message, "parameters", "binary_data_size")


def read_numbers(tensor: Tensor) -> Array:
    """A tensor of numbers in its shape; NaN where JSON had null or, of floats, NaN was sent.

    Raises:
        InvalidError: it holds something else, or numbers outside its data type.
    """
    if tensor.datatype not in NUMBERS:
        raise tensor.fault(f"numbers are due, not {tensor.datatype}", "datatype")
    dtype = NUMBERS[tensor.datatype]
    if not isinstance(tensor.content, list):
        return np.frombuffer(tensor.content, dtype).reshape(tensor.shape)
    values = _flatten(tensor, tensor.content)
    is_float = tensor.datatype in FLOATS
    kinds = {float, int, type(None)} if is_float else {int, type(None)}
    if not set(map(type, values)) <= kinds:
        raise _wrong_kind(tensor, values, kinds, "a number" if is_float else "a whole number")
    return (_to_floats if is_float else _to_integers)(tensor, values, dtype).reshape(tensor.shape)


def read_cells(tensor: Tensor) -> list[Any]:
    """A tensor of categories as texts, whole numbers or truths, row by row; None where JSON had
    null, or the text is empty.

    Raises:
        InvalidError: it holds something else.
    """
    if tensor.datatype == "BYTES":
        return [None if text == "" else text for text in _read_texts(tensor)]
    if tensor.datatype == "BOOL":
        return _read_truths(tensor)
    if tensor.datatype not in INTEGERS:
        message = f"categories are due, as BYTES, BOOL or whole numbers, not {tensor.datatype}"
        raise tensor.fault(message, "datatype")
    if isinstance(tensor.content, list):
        read_numbers(tensor)  # For its checks: as floats they may not be exact.
        return _flatten(tensor, tensor.content)
    return list(np.frombuffer(tensor.content, INTEGERS[tensor.datatype]).tolist())


def _to_floats(tensor: Tensor, values: list[Any], dtype: np.dtype[Any]) -> Array:
    given = [math.nan if value is None else value for value in values]
    try:
        wide = np.array(given, dtype=np.float64)
    except OverflowError:  # A whole number beyond all floats; such compare as they are.
        most = sys.float_info.max
        raise _does_not_fit(
            tensor, next(i for i, value in enumerate(given) if abs(value) > most)
        ) from None
    with np.errstate(over="ignore"):
        numbers = wide.astype(dtype)
    beyond = np.isinf(numbers) & np.isfinite(wide)
    if beyond.any():
        raise _does_not_fit(tensor, int(beyond.argmax()))
    return numbers


def _to_integers(tensor: Tensor, values: list[Any], dtype: np.dtype[Any]) -> Array:
    """As floats, which is what a network reads, so that there may be missing ones."""
    limits = np.iinfo(dtype)
    for place, value in enumerate(values):
        if value is not None and not limits.min <= value <= limits.max:
            raise _does_not_fit(tensor, place)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _read_truths(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.content, list):
        values = _flatten(tensor, tensor.content)
        if not set(map(type, values)) <= {bool, type(None)}:
            raise _wrong_kind(tensor, values, {bool, type(None)}, "true or false")
        return values
    truths = np.frombuffer(tensor.content, np.uint8)
    if (truths > 1).any():
        message = f"a truth is the byte 0 or 1, not {truths[truths > 1][0]}"
        raise tensor.fault(message, "data", int(np.argmax(truths > 1)))
    return list(truths.astype(bool).tolist())


def _read_texts(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.content, list):
        values = _flatten(tensor, tensor.content)
        if not set(map(type, values)) <= {str, type(None)}:
            raise _wrong_kind(tensor, values, {str, type(None)}, "a text")
        texts = values
    else:
        texts = []
        for place, element in enumerate(_split(tensor, tensor.content)):
            try:
                texts.append(str(element, "utf-8"))
            except UnicodeDecodeError:
                raise tensor.fault("a text is due, in UTF-8", "data", place) from None
    if not tensor.is_json:
        return texts
    return [_from_json(tensor, place, text) for place, text in enumerate(texts)]


def _from_json(tensor: Tensor, place: int, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return from_json(text)
    except ValueError as error:
        raise tensor.fault(f"JSON is due: {error}", "data", place) from None


def _split(tensor: Tensor, data: memoryview) -> list[memoryview]:
    """The elements of a BYTES tensor, as many as its shape says, and no byte beyond them."""
    elements, at = [], 0
    for place in range(tensor.size):
        start = at + _LENGTH.size
        if start > len(data):
            raise tensor.fault(
                f"its data end before element {place} of {tensor.size}", "data", place
            )
        (length,) = _LENGTH.unpack_from(data, at)
        at = start + length
        if at > len(data):
            message = f"element {place} says {length} bytes, and {len(data) - start} are left"
            raise tensor.fault(message, "data", place)
        elements.append(data[start:at])
    if at != len(data):
        message = f"{len(data) - at} bytes are left after its {tensor.size} elements"
        raise tensor.fault(message, "parameters", "binary_data_size")
    return elements


def _flatten(tensor: Tensor, data: list[Any]) -> list[Any]:
    """The values of JSON data row by row: flat as they are, or nested as the shape is."""
    values = data
    if len(tensor.shape) == 2 and data and isinstance(data[0], list):
        n_rows, width = tensor.shape
        wrong = next(
            (i for i, row in enumerate(data) if not isinstance(row, list) or len(row) != width),
            None,
        )
        if wrong is not None or len(data) != n_rows:
            place = [] if wrong is None else [wrong]
            raise tensor.fault(f"{n_rows} arrays of {width} values are due", "data", *place)
        values = list(itertools.chain.from_iterable(data))
    if len(values) != tensor.size:
        message = f"{_words(tensor)} has {tensor.size} values, not {len(values)}"
        raise tensor.fault(message, "data")
    return values


def _words(tensor: Tensor) -> str:
    return f"{tensor.datatype} of shape {list(tensor.shape)}"


def _wrong_kind(tensor: Tensor, values: Sequence[Any], kinds: set[Any], due: str) -> InvalidError:
    place = next(i for i, value in enumerate(values) if type(value) not in kinds)
    found = describe_type(values[place])
    found = "a fraction" if due == "a whole number" and found == "a number" else found
    return tensor.fault(f"{due} is due, not {found}", "data", place)


def _does_not_fit(tensor: Tensor, place: int) -> InvalidError:
    return tensor.fault(f"does not fit {tensor.datatype}", "data", place)
