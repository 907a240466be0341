"""Columns -> schema -> tensors: which features there are, and every row as numbers."""

from __future__ import annotations

import difflib
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import DataError, EncodeError
from models.features import (
    BOOLEAN_WORDS,
    LARGEST_INPUT,
    LARGEST_VALUE,
    SMALLEST_STD,
    CategoryFeature,
    Feature,
    NumberFeature,
)
from models.profile import (
    column_kind,
    count_values,
    is_number,
    normalised,
    reason_to_ignore,
    unusable_note,
)
from models.table import Schema, Target, Task

# A category needs this many training rows for an input of its own; rarer ones share one.
MIN_ROWS_PER_CATEGORY = 3
MOST_CATEGORIES = 64
MOST_LABELS = 200


def infer_task(table: pa.Table, target: str) -> Task:
    """Regression for a numeric target with more than two values, else classification.

    Raises:
        DataError: no such column.
    """
    column = _target_column(table, target)
    if is_number(column.type) and len(count_values(normalised(column)).values) > 2:
        return "regression"
    return "classification"


def infer_schema(table: pa.Table, target: str, task: Task, training_rows: np.ndarray) -> Schema:
    """The schema for predicting `target` from the other columns.

    Which values a column may take is read off all rows; means, spreads and ranges only off
    the training rows.

    Raises:
        DataError: an unusable target, an infinite number, or no usable feature.
    """
    features: list[Feature] = []
    ignored: dict[str, str] = {}
    for name, column in zip(table.column_names, table.itercolumns(), strict=True):
        if name == target:
            continue
        kind = column_kind(column)
        if kind == "unusable":
            ignored[name] = unusable_note(column.type)
            continue
        values = normalised(column, is_boolean=kind == "boolean")
        reason = reason_to_ignore(name, column.type, len(column), count_values(values))
        if reason is None and values.take(training_rows).null_count == len(training_rows):
            reason = "all values in the training rows are missing"
        if reason is not None:
            ignored[name] = reason
        elif kind == "number":
            features.append(_number_feature(name, values, training_rows))
        else:
            features.append(_category_feature(name, values, training_rows))
    if not features:
        reasons = "; ".join(f"{name} {reason}" for name, reason in ignored.items())
        raise DataError("no_features", f"no column can serve as a feature: {reasons or 'none'}")
    return Schema(tuple(features), _target(table, target, task, training_rows), ignored)


def _number_feature(name: str, values: pa.ChunkedArray, training_rows: np.ndarray) -> NumberFeature:
    _check_finite(name, values)
    training = values.take(training_rows).drop_null().to_numpy()
    std = float(training.std())
    return NumberFeature(
        name,
        mean=float(training.mean()),
        # Rounding gives equal numbers a spread, too.
        std=std if training.min() < training.max() and std >= SMALLEST_STD else 1.0,
        minimum=float(training.min()),
        maximum=float(training.max()),
        fill=float(np.median(training)) if values.null_count else None,
    )


def _check_finite(name: str, values: pa.ChunkedArray) -> None:
    """Infinite values, and those whose squares would be."""
    row = pc.index(pc.greater(pc.abs(values), LARGEST_VALUE), True).as_py()
    if row >= 0:
        value = values[row].as_py()
        what = "is infinite" if np.isinf(value) else f"is {value:g}, beyond ±{LARGEST_VALUE:g},"
        raise DataError("infinite_value", f"column {name!r} {what} in row {row + 1}", name)


def _category_feature(
    name: str, values: pa.ChunkedArray, training_rows: np.ndarray
) -> CategoryFeature:
    training = count_values(values.take(training_rows))
    n_frequent = min(int((training.counts >= MIN_ROWS_PER_CATEGORY).sum()), MOST_CATEGORIES)
    frequent = training.values[:n_frequent].to_pylist()
    every = count_values(values).values.to_pylist()
    return CategoryFeature(
        name,
        categories=tuple(sorted(frequent)),
        rare=tuple(sorted(set(every) - set(frequent))),
        has_missing=values.null_count > 0,
    )


def _target_column(table: pa.Table, target: str) -> pa.ChunkedArray:
    if target not in table.column_names:
        near = difflib.get_close_matches(target, table.column_names, n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else ""
        known = ", ".join(table.column_names[:20])
        message = f"there is no column {target!r}{hint} (columns: {known})"
        raise DataError("target_not_found", message, "target")
    return table.column(target)


def _target(table: pa.Table, target: str, task: Task, training_rows: np.ndarray) -> Target:
    column = _target_column(table, target)
    if task == "classification":
        return Target(target, labels=_labels(column, target))
    if not is_number(column.type):
        message = f"regression needs numbers, and {target!r} holds {column_kind(column)} values"
        raise DataError("target_not_numeric", message, "target")
    values = normalised(column)
    _check_finite(target, values)
    training = values.take(training_rows).to_numpy()
    std = float(training.std())
    if values.null_count == len(values) or training.min() == training.max() or std < SMALLEST_STD:
        raise DataError(
            "constant_target", f"{target!r} is the same in every row, or nearly", "target"
        )
    return Target(target, mean=float(training.mean()), std=std)


def _labels(column: pa.ChunkedArray, target: str) -> tuple[str, ...]:
    if column_kind(column) == "unusable":
        raise DataError("target_unusable", f"{target!r} {unusable_note(column.type)}", "target")
    is_boolean = column_kind(column) == "boolean"
    values = count_values(normalised(column, is_boolean=is_boolean)).values.to_pylist()
    if len(values) < 2:
        message = f"classification needs two classes, and {target!r} holds {len(values)}"
        raise DataError("one_class", message, "target")
    if len(values) > MOST_LABELS:
        message = f"{target!r} has {len(values)} classes, the most is {MOST_LABELS}"
        raise DataError("too_many_classes", message, "target")
    return tuple(_label(value) for value in sorted(values))


def _label(value: str | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def labelled_rows(table: pa.Table, target: str) -> pa.Table:
    """The rows whose target is not missing.

    Raises:
        DataError: no such column, or every target is missing.
    """
    column = _target_column(table, target)
    if column_kind(column) == "unusable":
        raise DataError("target_unusable", f"{target!r} {unusable_note(column.type)}", "target")
    present = table.filter(pc.is_valid(normalised(column)))
    if present.num_rows == 0:
        raise DataError("target_missing", f"every value of {target!r} is missing", "target")
    return present


def encode_features(table: pa.Table, schema: Schema, batch_cells: int = 2_000_000) -> np.ndarray:
    """Inputs (N, D) float32 of every row, made of so many cells at a time.

    Raises:
        DataError: a value is too far outside the training rows to compute with.
    """
    blocks = []
    batch_rows = max(1, batch_cells // len(schema.features))
    for start in range(0, table.num_rows, batch_rows):
        part = table.slice(start, batch_rows)
        columns = [
            normalised(part.column(feature.name), is_boolean=_is_boolean(feature)).to_pylist()
            for feature in schema.features
        ]
        try:
            blocks.append(schema.encode_columns(columns).inputs)
        except EncodeError as error:
            first = error.problems[0]
            message = f"column {first.feature!r}, row {start + first.row + 1}: {first.message}"
            raise DataError("extreme_value", message, str(first.feature)) from error
    return np.concatenate(blocks)


def encode_target(table: pa.Table, schema: Schema) -> np.ndarray:
    """Targets (N,): standardised float32, or int64 positions in `schema.target.labels`.

    Raises:
        DataError: a number is too far outside the training rows to compute with.
    """
    is_boolean = set(schema.target.labels) <= BOOLEAN_WORDS
    values = normalised(table.column(schema.target.name), is_boolean=is_boolean)
    if schema.target.task == "regression":
        numbers = values.to_numpy()
        scaled = (numbers - schema.target.mean) / schema.target.std
        if np.abs(scaled).max() > LARGEST_INPUT:
            row = int(np.abs(scaled).argmax())
            message = f"{numbers[row]:g} in row {row + 1} is too far from the others to train with"
            raise DataError("extreme_value", f"{schema.target.name!r}: {message}", "target")
        return np.asarray(scaled, dtype=np.float32)
    positions = {label: i for i, label in enumerate(schema.target.labels)}
    return np.array([positions[_label(value)] for value in values.to_pylist()], dtype=np.int64)


def records(table: pa.Table, schema: Schema) -> list[dict[str, Any]]:
    """Rows as objects for `Schema.encode`, with those features that the table has.

    Raises:
        DataError: a column holds what is neither numbers nor texts.
    """
    present = [feature for feature in schema.features if feature.name in table.column_names]
    columns = {feature.name: _values(table.column(feature.name), feature) for feature in present}
    return cast("list[dict[str, Any]]", pa.table(columns).to_pylist())


def _values(column: pa.ChunkedArray, feature: Feature) -> pa.ChunkedArray:
    """As the feature has them, whatever the file made of this column's few rows."""
    if isinstance(feature, CategoryFeature) and is_number(column.type):
        column = column.cast(pa.string())
    try:
        return normalised(column, is_boolean=_is_boolean(feature))
    except pa.ArrowException as error:
        message = f"column {feature.name!r} {unusable_note(column.type)}"
        raise DataError("unusable_column", message, feature.name) from error


def _is_boolean(feature: Feature) -> bool:
    return isinstance(feature, CategoryFeature) and feature.is_boolean
