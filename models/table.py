"""Columns <-> tensors: what a model remembers of its table, so that clients send raw records.

A `Schema` is plain data inside the artifact. It encodes records into the (N, D) inputs of
the network and decodes outputs into the target's units or into probabilities.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np

from models.errors import EncodeError, Problem
from models.features import (
    Array,
    CategoryFeature,
    Feature,
    Marks,
    NumberBlock,
    NumberFeature,
    describe_type,
    read_numbers,
)

Task = Literal["regression", "classification"]

# A request's errors are listed up to this many, and the first ones say what is near.
MOST_PROBLEMS = 100
MOST_HINTS = 3
# The first is what JSON has, and quickly told.
_OBJECTS = (dict, Mapping)
# Unknown names are shown up to this many characters.
LONGEST_NAME = 64


@dataclass(frozen=True)
class Target:
    """The column to predict: `labels` for classes (their order is that of the outputs),
    mean and std of the training rows for numbers."""

    name: str
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @property
    def task(self) -> Task:
        return "classification" if self.labels else "regression"

    @property
    def out_features(self) -> int:
        return len(self.labels) or 1


@dataclass(frozen=True)
class Encoded:
    """Inputs (N, D) float32, and by flag the rows (N,) that have it."""

    inputs: Array
    marks: Mapping[str, Array]

    @cached_property
    def flags(self) -> list[list[str]]:
        """For each row what is to be known of it: `out_of_range:NAME`, `unknown_category:NAME`,
        `missing:NAME`."""
        flags: list[list[str]] = [[] for _ in range(len(self.inputs))]
        for flag, marked in self.marks.items():
            for row in marked.nonzero()[0].tolist():
                flags[row].append(flag)
        return flags


@dataclass(frozen=True)
class Schema:
    """The features in order, the target, and the columns that training set aside, each with
    the reason; records may still carry those."""

    features: tuple[Feature, ...]
    target: Target
    ignored: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def in_features(self) -> int:
        """D, the width of the network's input."""
        return sum(feature.width for feature in self.features)

    @property
    def is_numeric(self) -> bool:
        """Whether all features are numbers."""
        return self._numbers.is_whole

    @property
    def input_names(self) -> list[str]:
        """What each of the D inputs is."""
        return [name for feature in self.features for name in feature.input_names]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(feature.name for feature in self.features) | frozenset(self.ignored)

    @cached_property
    def _numbers(self) -> NumberBlock:
        return NumberBlock(self.features)

    def encode(self, instances: Sequence[Any]) -> Encoded:
        """Inputs for N records, each an object by feature name or an array in order.

        Raises:
            EncodeError: for each fault its row and feature: a value of the wrong type, not
                finite, or missing where training had none missing; a wrong width; an
                unknown name.
        """
        rows, problems = self._rows(instances)
        if problems:
            raise EncodeError(problems)
        if self._numbers.is_whole:
            numbers = read_numbers([*chain.from_iterable(rows)])
            if numbers is not None:
                return self.encode_numbers(numbers.reshape(len(rows), len(self.features)))
        return self.encode_columns([*zip(*rows, strict=True)] or [()] * len(self.features))

    def encode_numbers(self, table: Array) -> Encoded:
        """The same from a table (N, features) of numbers, where all features are such; NaN is a
        missing value."""
        block = self._numbers.encode(table.astype(np.float64, copy=False))
        if block is None:
            return self.encode_columns([*table.T])
        return Encoded(self._numbers.place(block[0]), block[1])

    def encode_columns(self, columns: Sequence[Sequence[Any] | Array]) -> Encoded:
        """The same from N values for each feature, in order; those of a number may be an array,
        in which NaN is a missing value."""
        n_rows = len(columns[0])
        inputs = np.empty((n_rows, self.in_features), dtype=np.float32)
        problems: list[Problem] = []
        flagged, done = self._encode_numbers_of(columns, inputs)
        at = 0
        for i, (feature, values) in enumerate(zip(self.features, columns, strict=True)):
            if i in done:
                at += feature.width
                continue
            block, marks, faults = feature.encode(values)
            problems += [Problem(row, feature.name, message) for row, message in faults]
            if not problems:
                inputs[:, at : at + feature.width] = block
            flagged |= {f"{flag}:{feature.name}": rows for flag, rows in marks.items()}
            at += feature.width
        if problems:
            raise EncodeError(sorted(problems, key=lambda problem: problem.row)[:MOST_PROBLEMS])
        return Encoded(inputs, flagged)

    def _encode_numbers_of(
        self, columns: Sequence[Sequence[Any] | Array], inputs: Array
    ) -> tuple[Marks, Collection[int]]:
        """Fills in what the numeric ones among the columns become, if it is all plain; gives the
        rows with flags, and which columns are done."""
        values = [columns[i] for i in self._numbers.positions]
        numbers = [one if isinstance(one, np.ndarray) else read_numbers(one) for one in values]
        given = [one for one in numbers if one is not None]
        if not given or len(given) < len(numbers):
            return {}, ()
        block = self._numbers.encode(np.stack(given, axis=1, dtype=np.float64, casting="unsafe"))
        if block is None:
            return {}, ()
        self._numbers.place(block[0], inputs)
        return block[1], self._numbers.positions

    def decode(self, outputs: Array) -> Array:
        """Outputs (…, C) in the target's units, or as probabilities; float64."""
        outputs = np.asarray(outputs, dtype=np.float64)
        if self.target.task == "classification":
            return softmax(outputs)
        return outputs * self.target.std + self.target.mean

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `Schema.from_dict` is the way back."""
        return {
            "features": [
                {"type": "number" if isinstance(f, NumberFeature) else "category", **asdict(f)}
                for f in self.features
            ],
            "target": asdict(self.target),
            "ignored": dict(self.ignored),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        features: list[Feature] = []
        for fields in values["features"]:
            rest = {key: value for key, value in fields.items() if key != "type"}
            if fields["type"] == "number":
                features.append(NumberFeature(**rest))
            else:
                rest |= {key: tuple(rest[key]) for key in ("categories", "rare")}
                features.append(CategoryFeature(**rest))
        target = dict(values["target"])
        return cls(
            tuple(features),
            Target(**target | {"labels": tuple(target["labels"])}),
            dict(values["ignored"]),
        )

    def _rows(self, instances: Sequence[Any]) -> tuple[list[Sequence[Any]], list[Problem]]:
        names = [feature.name for feature in self.features]
        if {*map(type, instances)} == {list} and {*map(len, instances)} == {len(names)}:
            return list(instances), []
        rows: list[Sequence[Any]] = []
        problems: list[Problem] = []
        for row, instance in enumerate(instances):
            if len(problems) >= MOST_PROBLEMS:
                break
            if isinstance(instance, _OBJECTS):
                if not instance.keys() <= self._known:
                    problems += self._unknown_names(row, instance, len(problems))
                rows.append([*map(instance.get, names)])
            elif isinstance(instance, list | tuple):
                rows.append(instance)
                if len(instance) != len(names):
                    message = (
                        f"{len(names)} values are due, one for each feature, not {len(instance)}"
                    )
                    problems.append(Problem(row, None, message))
            else:
                message = f"an object or an array is due, not {describe_type(instance)}"
                problems.append(Problem(row, None, message))
        return rows, problems

    def _unknown_names(self, row: int, instance: Mapping[str, Any], n_before: int) -> list[Problem]:
        """As many as the list of problems still takes, after those before."""
        problems: list[Problem] = []
        for name in instance:
            number = n_before + len(problems)
            if number >= MOST_PROBLEMS:
                break
            shown = name[:LONGEST_NAME]
            if name == self.target.name:
                problems.append(Problem(row, shown, "is the target, which the model predicts"))
            elif name not in self._known:
                hint = self._near(shown) if number < MOST_HINTS else ""
                problems.append(Problem(row, shown, f"is not a feature of this model{hint}"))
        return problems

    def _near(self, name: str) -> str:
        found = difflib.get_close_matches(name, [feature.name for feature in self.features])
        return f"; near it: {', '.join(found)}" if found else ""


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
