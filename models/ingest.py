"""Files -> columns -> schema: reading training data and finding out what is in it.

Reading is Arrow's (`pyarrow`), whose errors name the row. Nothing here is needed to serve.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from models.errors import DataError
from models.table import CategoryFeature, Feature, NumberFeature, Schema, Target, Task

Format = Literal["csv", "parquet", "ndjson"]
Kind = Literal["number", "category", "boolean", "unusable"]

MISSING_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
DELIMITERS = ",;\t|"
# A category needs this many training rows for an input of its own; rarer ones share one.
MIN_ROWS_PER_CATEGORY = 3
MOST_CATEGORIES = 64
MOST_LABELS = 200
IDENTIFIER_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|index|rownum|row_?id)$|^unnamed", re.IGNORECASE
)


def read_table(path: Path, file_format: Format) -> pa.Table:
    """The whole file as columns. CSV may use comma, semicolon, tab or bar.

    Raises:
        DataError: not readable as that format, with the row where Arrow names one; no
            rows; a column without a name or a name that stands twice.
    """
    try:
        if file_format == "csv":
            table = _read_csv(path)
        elif file_format == "ndjson":
            table = pyarrow.json.read_json(
                path, read_options=pyarrow.json.ReadOptions(use_threads=False)
            )
        else:
            table = pyarrow.parquet.read_table(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"not readable as {file_format}: {str(error).splitlines()[0]}"
        raise DataError("unreadable_file", message) from error
    names = table.column_names
    for name in names:
        if not name.strip():
            raise DataError("unnamed_column", f"column {names.index(name) + 1} has no name")
        if names.count(name) > 1:
            raise DataError("duplicate_column", f"the name {name!r} stands on two columns", name)
    if table.num_rows == 0:
        raise DataError("no_rows", "the file has a header but no rows")
    return table


def _read_csv(path: Path) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline(1 << 20).decode("utf-8-sig", errors="replace")
    delimiter = max(DELIMITERS, key=header.count)
    return pyarrow.csv.read_csv(
        path,
        # One thread: only then does Arrow know the number of a broken row.
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=MISSING_WORDS, strings_can_be_null=True
        ),
    )


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds. `note` says why it would not be used as a feature."""

    name: str
    type: Kind
    missing: int
    distinct: int
    minimum: float | None = None
    maximum: float | None = None
    examples: tuple[str, ...] = ()
    note: str | None = None


def profile(table: pa.Table) -> list[ColumnProfile]:
    """One profile for each column, in the file's order."""
    return [_profile_column(name, table.column(name)) for name in table.column_names]


def _profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    kind = column_kind(column)
    if kind == "unusable":
        return ColumnProfile(name, kind, column.null_count, 0, note=_unusable_note(column))
    values = _normalised(column)
    counts = _value_counts(values)
    minimum = maximum = None
    if kind == "number":
        present = values.drop_null().to_numpy()
        finite = present[np.isfinite(present)]
        if len(finite):
            minimum, maximum = float(finite.min()), float(finite.max())
    examples = tuple(str(value)[:80] for value in list(counts)[:5])
    note = _reason_to_ignore(name, column, counts, len(values) - values.null_count)
    return ColumnProfile(
        name, kind, values.null_count, len(counts), minimum, maximum, examples, note
    )


def column_kind(column: pa.ChunkedArray) -> Kind:
    """What a column's values are, by their Arrow type and, for texts, by their words."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        words = pc.unique(column.cast(pa.string()).slice(0, 1000)).drop_null().to_pylist()
        is_boolean = words and {word.lower() for word in words} <= {"true", "false"}
        return "boolean" if is_boolean else "category"
    if pa.types.is_null(kind):
        return "number"
    return "unusable"


def _unusable_note(column: pa.ChunkedArray) -> str:
    if pa.types.is_temporal(column.type):
        return "dates and times are not used: derive numbers from them, such as days since a start"
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return "holds bytes that are not UTF-8 text"
    return f"holds nested or unknown values ({column.type})"


def _normalised(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as float64 with NaN as missing; everything else as text, booleans in lower case."""
    kind = column_kind(column)
    if kind == "number":
        numbers = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    texts = column.cast(pa.string())
    return pc.utf8_lower(texts) if kind == "boolean" else texts


def _value_counts(values: pa.ChunkedArray) -> dict[Any, int]:
    """How often each value that is not missing stands there, most frequent first."""
    counts = pc.value_counts(values.combine_chunks()).to_pylist()
    pairs = [(pair["values"], pair["counts"]) for pair in counts if pair["values"] is not None]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], str(pair[0]))))


def _reason_to_ignore(
    name: str, column: pa.ChunkedArray, counts: dict[Any, int], present: int
) -> str | None:
    kind = column_kind(column)
    if kind == "unusable":
        return _unusable_note(column)
    if present == 0:
        return "all values are missing"
    if len(counts) == 1 and present == len(column):
        return "is constant"
    is_unique = len(counts) == present and present >= 20
    if kind == "number" and is_unique and pa.types.is_integer(column.type):
        values = np.sort(np.fromiter(counts, dtype=np.float64))
        if IDENTIFIER_NAME.search(name) or bool((np.diff(values) == 1).all()):
            return "looks like an identifier: whole numbers, no two alike"
    if kind == "category" and present >= 20 and len(counts) > max(20, 0.5 * present):
        return _describe_texts(column, counts)
    return None


def _describe_texts(column: pa.ChunkedArray, counts: dict[Any, int]) -> str:
    numeric = [text for text in counts if _is_number(text)]
    if len(numeric) > 0.8 * len(counts):
        odd = next(text for text in counts if not _is_number(text))
        row = pc.index(column.cast(pa.string()), odd).as_py()
        return f"would be numbers, but row {row + 1} holds {odd[:40]!r}"
    return "looks like an identifier or free text: most values stand only once"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def infer_task(table: pa.Table, target: str) -> Task:
    """Regression for a numeric target with more than two values, else classification.

    Raises:
        DataError: no such column.
    """
    column = _target_column(table, target)
    if column_kind(column) == "number" and len(_value_counts(_normalised(column))) > 2:
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
            ignored[name] = _unusable_note(column)
            continue
        values = _normalised(column)
        reason = _reason_to_ignore(
            name, column, _value_counts(values), len(values) - values.null_count
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
    counts = _value_counts(values.take(training_rows))
    frequent = [value for value, count in counts.items() if count >= MIN_ROWS_PER_CATEGORY]
    frequent = frequent[:MOST_CATEGORIES]
    every = _value_counts(values)
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
    values = _normalised(column)
    _check_finite(target, values)
    training = values.take(training_rows).to_numpy()
    if values.null_count == len(values) or float(training.std()) == 0.0:
        raise DataError("constant_target", f"{target!r} is the same in every row", "target")
    return Target(target, mean=float(training.mean()), std=float(training.std()))


def _labels(column: pa.ChunkedArray, target: str) -> tuple[str, ...]:
    if column_kind(column) == "unusable":
        raise DataError("target_unusable", f"{target!r} {_unusable_note(column)}", "target")
    values = list(_value_counts(_normalised(column)))
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
        raise DataError("target_unusable", f"{target!r} {_unusable_note(column)}", "target")
    present = table.filter(pc.is_valid(_normalised(column)))
    if present.num_rows == 0:
        raise DataError("target_missing", f"every value of {target!r} is missing", "target")
    return present


def encode_features(table: pa.Table, schema: Schema, batch_cells: int = 2_000_000) -> np.ndarray:
    """Inputs (N, D) float32 of every row, made of so many cells at a time."""
    blocks = []
    batch_rows = max(1, batch_cells // len(schema.features))
    for start in range(0, table.num_rows, batch_rows):
        part = table.slice(start, batch_rows)
        columns = [
            _normalised(part.column(feature.name)).to_pylist() for feature in schema.features
        ]
        blocks.append(schema.encode_columns(columns).inputs)
    return np.concatenate(blocks)


def encode_target(table: pa.Table, schema: Schema) -> np.ndarray:
    """Targets (N,): standardised float32, or int64 positions in `schema.target.labels`."""
    values = _normalised(table.column(schema.target.name))
    if schema.target.task == "regression":
        numbers = values.to_numpy()
        scaled = (numbers - schema.target.mean) / schema.target.std
        return np.asarray(scaled, dtype=np.float32)
    positions = {label: i for i, label in enumerate(schema.target.labels)}
    return np.array([positions[_label(value)] for value in values.to_pylist()], dtype=np.int64)


def records(table: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as objects for `Schema.encode`, with only the named columns that the table has."""
    present = [name for name in names if name in table.column_names]
    columns = {name: _normalised(table.column(name)) for name in present}
    return cast("list[dict[str, Any]]", pa.table(columns).to_pylist())
