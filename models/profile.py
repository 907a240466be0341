"""Columns -> what is in them: kinds, missing values, identifiers, constants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["number", "category", "boolean", "unusable"]

IDENTIFIER_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|index|rownum|row_?id)$|^unnamed", re.IGNORECASE
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
        return ColumnProfile(name, kind, column.null_count, 0, note=unusable_note(column))
    values = normalised(column)
    counts = value_counts(values)
    minimum = maximum = None
    if kind == "number":
        present = values.drop_null().to_numpy()
        finite = present[np.isfinite(present)]
        if len(finite):
            minimum, maximum = float(finite.min()), float(finite.max())
    examples = tuple(str(value)[:80] for value in list(counts)[:5])
    note = reason_to_ignore(name, column, counts, len(values) - values.null_count)
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


def unusable_note(column: pa.ChunkedArray) -> str:
    if pa.types.is_temporal(column.type):
        return "dates and times are not used: derive numbers from them, such as days since a start"
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return "holds bytes that are not UTF-8 text"
    return f"holds nested or unknown values ({column.type})"


def normalised(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as float64 with NaN as missing; everything else as text, booleans in lower case."""
    kind = column_kind(column)
    if kind == "number":
        numbers = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    texts = column.cast(pa.string())
    return pc.utf8_lower(texts) if kind == "boolean" else texts


def value_counts(values: pa.ChunkedArray) -> dict[Any, int]:
    """How often each value that is not missing stands there, most frequent first."""
    counts = pc.value_counts(values.combine_chunks()).to_pylist()
    pairs = [(pair["values"], pair["counts"]) for pair in counts if pair["values"] is not None]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], str(pair[0]))))


def reason_to_ignore(
    name: str, column: pa.ChunkedArray, counts: dict[Any, int], present: int
) -> str | None:
    kind = column_kind(column)
    if kind == "unusable":
        return unusable_note(column)
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
