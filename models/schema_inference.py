"""Columns -> schema -> tensors: which features there are, and every row as numbers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import DataError
from models.features import CategoryFeature, Feature, NumberFeature
from models.profile import column_kind, normalised, reason_to_ignore, unusable_note, value_counts
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
    if column_kind(column) == "number" and len(value_counts(normalised(column))) > 2:
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
    for name in table.column_names:
        if name == target:
            continue
        column = table.column(name)
        if column_kind(column) == "unusable":
            ignored[name] = unusable_note(column)
            continue
        values = normalised(column)
        reason = reason_to_ignore(
            name, column, value_counts(values), len(values) - values.null_count
        )
        if reason is None and values.take(training_rows).null_count == len(training_rows):
            reason = "all values in the training rows are missing"
        if reason is not None:
            ignored[name] = reason
        elif column_kind(column) == "number":
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
    return NumberFeature(
        name,
        mean=float(training.mean()),
        std=float(training.std()) or 1.0,
        minimum=float(training.min()),
        maximum=float(training.max()),
        fill=float(np.median(training)) if values.null_count else None,
    )


def _check_finite(name: str, values: pa.ChunkedArray) -> None:
    infinite = pc.index(pc.is_inf(values), True).as_py()
    if infinite >= 0:
        message = f"column {name!r} is infinite in row {infinite + 1}"
        raise DataError("infinite_value", message, name)


def _category_feature(
    name: str, values: pa.ChunkedArray, training_rows: np.ndarray
) -> CategoryFeature:
    counts = value_counts(values.take(training_rows))
    frequent = [value for value, count in counts.items() if count >= MIN_ROWS_PER_CATEGORY]
    frequent = frequent[:MOST_CATEGORIES]
    every = value_counts(values)
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
    if column_kind(column) != "number":
        message = f"regression needs numbers, and {target!r} holds {column_kind(column)} values"
        raise DataError("target_not_numeric", message, "target")
    values = normalised(column)
    _check_finite(target, values)
    training = values.take(training_rows).to_numpy()
    if values.null_count == len(values) or float(training.std()) == 0.0:
        raise DataError("constant_target", f"{target!r} is the same in every row", "target")
    return Target(target, mean=float(training.mean()), std=float(training.std()))


def _labels(column: pa.ChunkedArray, target: str) -> tuple[str, ...]:
    if column_kind(column) == "unusable":
        raise DataError("target_unusable", f"{target!r} {unusable_note(column)}", "target")
    values = list(value_counts(normalised(column)))
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
        raise DataError("target_unusable", f"{target!r} {unusable_note(column)}", "target")
    present = table.filter(pc.is_valid(normalised(column)))
    if present.num_rows == 0:
        raise DataError("target_missing", f"every value of {target!r} is missing", "target")
    return present


def encode_features(table: pa.Table, schema: Schema, batch_cells: int = 2_000_000) -> np.ndarray:
    """Inputs (N, D) float32 of every row, made of so many cells at a time."""
    blocks = []
    batch_rows = max(1, batch_cells // len(schema.features))
    for start in range(0, table.num_rows, batch_rows):
        part = table.slice(start, batch_rows)
        columns = [normalised(part.column(feature.name)).to_pylist() for feature in schema.features]
        blocks.append(schema.encode_columns(columns).inputs)
    return np.concatenate(blocks)


def encode_target(table: pa.Table, schema: Schema) -> np.ndarray:
    """Targets (N,): standardised float32, or int64 positions in `schema.target.labels`."""
    values = normalised(table.column(schema.target.name))
    if schema.target.task == "regression":
        numbers = values.to_numpy()
        scaled = (numbers - schema.target.mean) / schema.target.std
        return np.asarray(scaled, dtype=np.float32)
    positions = {label: i for i, label in enumerate(schema.target.labels)}
    return np.array([positions[_label(value)] for value in values.to_pylist()], dtype=np.int64)


def records(table: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as objects for `Schema.encode`, with only the named columns that the table has."""
    present = [name for name in names if name in table.column_names]
    columns = {name: normalised(table.column(name)) for name in present}
    return cast("list[dict[str, Any]]", pa.table(columns).to_pylist())
