"""One column <-> its inputs: numbers standardised, categories as one of several."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray
# By flag, the rows (N,) that have it.
Marks = dict[str, Array]

# Standardised inputs beyond this would overflow the network's 32-bit arithmetic.
LARGEST_INPUT = 1e15
# Spreads are sums of squares in 64 bits, which neither overflow nor vanish in between.
LARGEST_VALUE = 1e100
SMALLEST_STD = 1e-100
BOOLEAN_WORDS = frozenset({"true", "false"})
_MISSING = "is missing, and training had no missing values here"
_NOT_FINITE = "a finite number is due"


@dataclass(frozen=True)
class NumberFeature:
    """A numeric column: standardised by the training rows' mean and std, one input wide;
    where training had missing values `fill` replaces them and a second input says so."""

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float
    fill: float | None = None

    @property
    def width(self) -> int:
        return 1 if self.fill is None else 2

    @property
    def input_names(self) -> list[str]:
        """What each of the inputs is."""
        return [self.name, f"{self.name} missing"][: self.width]

    def describe(self) -> dict[str, Any]:
        """For the version's card."""
        return {
            "name": self.name,
            "type": "number",
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": self.mean,
            "std": self.std,
            "missing_allowed": self.fill is not None,
        }

    def encode(self, values: Sequence[Any] | Array) -> tuple[Array, Marks, list[tuple[int, str]]]:
        """(N, width) inputs, the rows outside the training range or without a value, and what
        is wrong where. In an array of numbers NaN is a missing value."""
        numbers, problems = self._numbers(values)
        missing = np.isnan(numbers)
        if self.fill is not None:
            numbers = np.where(missing, self.fill, numbers)
        outside = ~missing & ((numbers < self.minimum) | (numbers > self.maximum))
        with np.errstate(over="ignore"):
            scaled = (numbers - self.mean) / self.std
        for row in np.flatnonzero(np.abs(scaled) > LARGEST_INPUT):
            problems.append((int(row), "is too far outside the training range to compute with"))
        columns = (scaled,) if self.fill is None else (scaled, missing)
        marks = {"out_of_range": outside, "missing": missing}
        return np.stack(columns, axis=1), marks, problems

    def _numbers(self, values: Sequence[Any] | Array) -> tuple[Array, list[tuple[int, str]]]:
        if isinstance(values, np.ndarray):
            return self._numbers_of_array(values.astype(np.float64))
        if set(map(type, values)) <= {float, int}:
            try:
                numbers = np.array(values, dtype=np.float64)
            except OverflowError:
                pass
            else:
                if np.isfinite(numbers).all():
                    return numbers, []
        numbers = np.zeros(len(values))
        problems = []
        for row, value in enumerate(values):
            message = self._fault(value)
            if message:
                problems.append((row, message))
            else:
                numbers[row] = math.nan if value is None else value
        return numbers, problems

    def _numbers_of_array(self, numbers: Array) -> tuple[Array, list[tuple[int, str]]]:
        is_missing = np.isnan(numbers)
        wrong = np.isinf(numbers)
        if self.fill is None:
            wrong |= is_missing
        problems = [
            (row, _MISSING if is_missing[row] else _NOT_FINITE)
            for row in np.flatnonzero(wrong).tolist()
        ]
        numbers[wrong] = 0.0
        return numbers, problems

    def _fault(self, value: Any) -> str | None:
        if value is None:
            return _MISSING if self.fill is None else None
        if type(value) not in (int, float):
            return f"a number is due, not {describe_type(value)}"
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        return None if finite else _NOT_FINITE


@dataclass(frozen=True)
class CategoryFeature:
    """A column of categories: one input for each of `categories`, one that the `rare` ones
    share, one for missing where training had missing values. Booleans are the categories
    "false" and "true"."""

    name: str
    categories: tuple[str, ...]
    rare: tuple[str, ...] = ()
    has_missing: bool = False

    @property
    def width(self) -> int:
        return len(self.categories) + bool(self.rare) + self.has_missing

    @property
    def input_names(self) -> list[str]:
        """What each of the inputs is."""
        names = [f"{self.name} = {category}" for category in self.categories]
        names += [f"{self.name} is rare"] * bool(self.rare)
        return names + [f"{self.name} missing"] * self.has_missing

    def describe(self) -> dict[str, Any]:
        """For the version's card."""
        return {
            "name": self.name,
            "type": "category",
            "categories": sorted((*self.categories, *self.rare)),
            "missing_allowed": self.has_missing,
        }

    @property
    def is_boolean(self) -> bool:
        """Whether its categories are the words for true and false, which any case may have."""
        return {*self.categories, *self.rare} <= BOOLEAN_WORDS

    @cached_property
    def _positions(self) -> dict[Any, int]:
        positions: dict[Any, int] = {name: i for i, name in enumerate(self.categories)}
        positions |= dict.fromkeys(self.rare, len(self.categories))
        if self.has_missing:
            positions[None] = self.width - 1
        return positions

    def encode(self, values: Sequence[Any] | Array) -> tuple[Array, Marks, list[tuple[int, str]]]:
        """(N, width) inputs, the rows of unknown category or without one, and what is wrong
        where."""
        inputs = np.zeros((len(values), self.width))
        unknown = np.zeros(len(values), dtype=bool)
        problems = []
        is_boolean = self.is_boolean
        for row, given in enumerate(values):
            value = str(given) if type(given) in (bool, int) else given
            if type(value) is str and (is_boolean or type(given) is bool):
                lower = value.lower()
                value = lower if is_boolean or lower in self._positions else value
            if value is None and not self.has_missing:
                problems.append((row, _MISSING))
            elif value is not None and type(value) is not str:
                problems.append((row, f"a text is due, not {describe_type(value)}"))
            elif value in self._positions:
                inputs[row, self._positions[value]] = 1.0
            else:
                # Closest to what the network has seen: pooled with the rare ones if there are any.
                unknown[row] = True
                if self.rare:
                    inputs[row, len(self.categories)] = 1.0
        marks = {"unknown_category": unknown}
        if self.has_missing:
            marks["missing"] = inputs[:, -1] > 0.0
        return inputs, marks, problems


Feature = NumberFeature | CategoryFeature


def read_numbers(values: Sequence[Any]) -> Array | None:
    """(n,) float64; None if one of them is no plain number, or larger than any float."""
    # Each step is what takes least time for ten thousand values.
    kinds = [*map(type, values)]
    if kinds.count(float) != len(kinds) and kinds.count(float) + kinds.count(int) != len(kinds):
        return None
    try:
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))
    except (OverflowError, struct.error):
        return None


class NumberBlock:
    """All numeric columns of a schema at once, where their own way takes dozens of calls for each.
    It knows the plain case alone: each value there, and in range to compute with."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.positions = [i for i, one in enumerate(features) if isinstance(one, NumberFeature)]
        numbers = [one for one in features if isinstance(one, NumberFeature)]
        starts = np.cumsum([0, *(one.width for one in features)])
        self.is_whole = len(numbers) == len(features)
        self._width = int(starts[-1])
        self._names = [one.name for one in numbers]
        self._inputs = starts[self.positions]
        self._absent = self._inputs[[one.fill is not None for one in numbers]] + 1
        parts = [(one.mean, one.std, one.minimum, one.maximum) for one in numbers]
        columns = np.array(parts, dtype=np.float64).reshape(-1, 4).T
        self._mean, self._std, self._minimum, self._maximum = columns
        with np.errstate(over="ignore"):
            ends = (columns[2:] - self._mean) / self._std
        # Whether what is inside the training range can be computed with, as it should.
        self._is_sane = bool((np.abs(ends) <= LARGEST_INPUT).all())

    def encode(self, numbers: Array) -> tuple[Array, Marks] | None:
        """Of numbers (N, K) the same standardised, and the rows out of range by flag; None if
        each column has to be looked at by itself."""
        is_inside = (numbers >= self._minimum) & (numbers <= self._maximum)
        if self._is_sane and np.count_nonzero(is_inside) == is_inside.size:
            scaled = numbers - self._mean
            scaled /= self._std
            return scaled, {}
        with np.errstate(over="ignore"):
            scaled = (numbers - self._mean) / self._std
        if not (np.abs(scaled) <= LARGEST_INPUT).all():  # nor NaN
            return None
        marked = np.flatnonzero(~is_inside.all(axis=0)).tolist()
        return scaled, {f"out_of_range:{self._names[i]}": ~is_inside[:, i] for i in marked}

    def place(self, scaled: Array, inputs: Array | None = None) -> Array:
        """Inputs (N, D) float32 with these (N, K) in their columns; those of the others are as
        they were given."""
        if inputs is None:
            if self._width == len(self._inputs):
                return scaled.astype(np.float32)
            inputs = np.empty((len(scaled), self._width), dtype=np.float32)
        inputs[:, self._inputs] = scaled
        inputs[:, self._absent] = 0.0
        return inputs


def describe_type(value: Any) -> str:
    """What a value is, in JSON's words."""
    names = {type(None): "null", bool: "a boolean", str: "a text", int: "a number"}
    names |= {float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
