"""Tensors -> rows: one table with a column for each feature, or one tensor for each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import EncodeError, Problem
from models.features import CategoryFeature, Feature, NumberFeature
from models.table import MOST_PROBLEMS, Encoded, Schema
from service.errors import InvalidError, MalformedError
from service.open_inference.requests import TABLE
from service.open_inference.tensors import NUMBERS, Array, Tensor, read_cells, read_numbers
from service.wording import listed, near

TABLE_DATATYPE = NUMBERS["FP32"]


@dataclass(frozen=True)
class TensorRows:
    """The rows of one request (`service.computation.Rows`)."""

    inputs: Sequence[Tensor] | memoryview

    def count(self, schema: Schema) -> int:
        """N, by the shapes; what is in the tensors is looked at by `encode`.

        Raises:
            InvalidError: the inputs are not those of the model, or differ in N.
        """
        if isinstance(self.inputs, memoryview):
            return _count_raw(self.inputs, schema)
        n_rows = self.inputs[0].shape[0]
        if _is_table(self.inputs, schema):
            _check_shape(self.inputs[0], n_rows, len(schema.features))
        else:
            _check_names(self.inputs, schema)
            for tensor in self.inputs:
                _check_shape(tensor, n_rows, None)
        return n_rows

    def encode(self, schema: Schema) -> Encoded:
        """What the network reads.

        Raises:
            InvalidError: values of another kind than a tensor says, or than its feature takes.
            EncodeError: rows that do not fit the schema.
        """
        if isinstance(self.inputs, memoryview):
            shape = (self.count(schema), len(schema.features))
            return _encode_table(np.frombuffer(self.inputs, TABLE_DATATYPE).reshape(shape), schema)
        if _is_table(self.inputs, schema):
            return _encode_table(read_numbers(self.inputs[0]), schema)
        tensors = {tensor.name: tensor for tensor in self.inputs}
        n_rows = self.inputs[0].shape[0]
        return schema.encode_columns(
            [_read_column(feature, tensors, n_rows) for feature in schema.features]
        )


def positions_of(feature: CategoryFeature) -> list[str]:
    """The categories in the order of the version's card: in one tensor each is its position."""
    return list(feature.describe()["categories"])


def _is_table(inputs: Sequence[Tensor], schema: Schema) -> bool:
    """Whether the only input is the table. A feature may have the same name: its tensor is one
    column, and then so is the table of a model with that feature alone."""
    if len(inputs) > 1 or inputs[0].name != TABLE:
        return False
    is_feature = any(feature.name == TABLE for feature in schema.features)
    return not is_feature or (inputs[0].datatype in NUMBERS and len(inputs[0].shape) == 2)


def _check_shape(tensor: Tensor, n_rows: int, width: int | None) -> None:
    rows, *columns = tensor.shape
    if width is None and columns not in ([], [1]):
        message = f"one value for each row is due, of shape [{n_rows}] or [{n_rows}, 1]"
        raise tensor.fault(f"{message}, not {list(tensor.shape)}", "shape")
    if width is not None and columns != [width]:
        message = f"a column for each of the {width} features is due"
        raise tensor.fault(f"{message}, not shape {list(tensor.shape)}", "shape")
    if rows != n_rows:
        raise tensor.fault(f"has {rows} rows, and the first input {n_rows}", "shape", 0)
    if rows == 0:
        raise tensor.fault("at least one row is due", "shape", 0)


def _count_raw(data: memoryview, schema: Schema) -> int:
    width = len(schema.features) * TABLE_DATATYPE.itemsize
    n_rows, rest = divmod(len(data), width)
    if rest or not n_rows:
        raise MalformedError(
            f"a raw body is rows of {len(schema.features)} FP32 values, {width} bytes each: "
            f"{len(data)} bytes are not"
        )
    return n_rows


def _check_names(inputs: Sequence[Tensor], schema: Schema) -> None:
    names = [feature.name for feature in schema.features]
    known = {*names, *schema.ignored}
    for tensor in inputs:
        if tensor.name == schema.target.name:
            raise tensor.fault("is the target, which the model predicts", "name")
        if tensor.name == TABLE and tensor.name not in known:
            message = f"it is the only input, or there is one for each feature: {listed(names)}"
            raise tensor.fault(message, "name")
        if tensor.name not in known:
            message = f"is not a feature of this model{near(tensor.name, names)}"
            raise tensor.fault(message, "name")
    given = {tensor.name for tensor in inputs}
    missing = [
        feature.name
        for feature in schema.features
        if feature.name not in given and not _may_be_missing(feature)
    ]
    if missing:
        message = f"a tensor is due for each feature, or one called {TABLE!r} with all of them"
        message = f"{message}: there is none for {listed(missing)}"
        raise InvalidError(message, errors=[{"loc": ["inputs"], "msg": message}])


def _may_be_missing(feature: Feature) -> bool:
    return bool(feature.describe()["missing_allowed"])


def _read_column(
    feature: Feature, tensors: Mapping[str, Tensor], n_rows: int
) -> Sequence[Any] | Array:
    tensor = tensors.get(feature.name)
    if isinstance(feature, NumberFeature):
        return np.full(n_rows, np.nan) if tensor is None else read_numbers(tensor).reshape(n_rows)
    return [None] * n_rows if tensor is None else read_cells(tensor)


def _encode_table(table: Array, schema: Schema) -> Encoded:
    if schema.is_numeric:
        return schema.encode_numbers(table)
    problems: list[Problem] = []
    columns: list[Sequence[Any] | Array] = []
    for column, feature in zip(table.T, schema.features, strict=True):
        if isinstance(feature, NumberFeature):
            columns.append(column)
        else:
            categories, faults = _categories(feature, column)
            columns.append(categories)
            problems += faults
    if problems:
        problems.sort(key=lambda problem: problem.row)
        raise EncodeError(problems[:MOST_PROBLEMS])
    return schema.encode_columns(columns)


def _categories(feature: CategoryFeature, column: Array) -> tuple[list[Any], list[Problem]]:
    """What stands at those positions, NaN for none; and which are none."""
    names = positions_of(feature)
    values = column.astype(np.float64)
    is_missing = np.isnan(values)
    is_known = is_missing | np.isin(values, np.arange(len(names)))
    positions = np.where(is_missing | ~is_known, len(names), values).astype(np.intp)
    cells = np.array([*names, None], dtype=object)[positions].tolist()
    problems = [
        Problem(
            row,
            feature.name,
            f"has {len(names)} categories, counted from 0 in the card's order, and none at "
            f"{values[row]:g}: or send one tensor for each feature",
        )
        for row in np.flatnonzero(~is_known)[:MOST_PROBLEMS].tolist()
    ]
    return cells, problems
