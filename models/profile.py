"""Columns -> what is in them: kinds, missing values, identifiers, constants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.features import BOOLEAN_WORDS

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
    return [
        _profile_column(name, column)
        for name, column in zip(table.column_names, table.itercolumns(), strict=True)
    ]


def _profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    kind = column_kind(column)
    if kind == "unusable":
        return ColumnProfile(name, kind, column.null_count, 0, note=unusable_note(column))
    values = normalised(column, is_boolean=kind == "boolean")
    counts = count_values(values)
    minimum = maximum = None
    if kind == "number":
        present = counts.values.to_numpy()
        finite = present[np.isfinite(present)]
        if len(finite):
            minimum, maximum = float(finite.min()), float(finite.max())
    examples = tuple(str(value)[:80] for value in counts.values[:5].to_pylist())
    note = reason_to_ignore(name, column, counts)
    return ColumnProfile(
        name, kind, values.null_count, len(counts.values), minimum, maximum, examples, note
    )


def column_kind(column: pa.ChunkedArray) -> Kind:
    """What a column's values are, by their Arrow type and, for texts, by their words.

    Ask it of whole columns only: a part of one may hold other words than the rest.
    """
    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if is_number(kind):
        return "number"
    if is_text(kind):
        words = pc.unique(column.cast(pa.string())).drop_null()
        # "true", "TRUE", "True" …: more words than this are no boolean's.
        few = {word.lower() for word in words[:8].to_pylist()}
        is_boolean = 0 < len(words) <= 8 and few <= BOOLEAN_WORDS
        return "boolean" if is_boolean else "category"
    return "unusable"


def is_number(kind: pa.DataType) -> bool:
    """Whether it is numbers; a column of nulls alone may pass for one."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether it is text, plain or as a dictionary."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether it is bytes, plain or as a dictionary."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def unusable_note(column: pa.ChunkedArray) -> str:
    """Why no feature and no target can be made of it."""
    if pa.types.is_temporal(column.type):
        return "dates and times are not used: derive numbers from them, such as days since a start"
    if is_bytes(column.type):
        return "holds bytes that are not UTF-8 text"
    return f"holds nested or unknown values ({str(column.type)[:80]})"


def normalised(column: pa.ChunkedArray, *, is_boolean: bool = False) -> pa.ChunkedArray:
    """Numbers as float64 with NaN as missing; everything else as text, booleans in lower case."""
    if is_number(column.type):
        numbers = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    texts = column.cast(pa.string())
    return pc.utf8_lower(texts) if is_boolean else texts


@dataclass(frozen=True)
class Counts:
    """The different values that are not missing, most frequent first, and how often each is."""

    values: pa.Array
    counts: np.ndarray

    @property
    def present(self) -> int:
        """How many values are not missing."""
        return int(self.counts.sum())


def count_values(values: pa.ChunkedArray) -> Counts:
    """Its different values and their numbers."""
    table = pa.Table.from_struct_array(pc.value_counts(values.drop_null().combine_chunks()))
    table = table.sort_by([("counts", "descending"), ("values", "ascending")]).combine_chunks()
    return Counts(
        table.column("values").combine_chunks(),
        table.column("counts").to_numpy(zero_copy_only=False),
    )


def reason_to_ignore(name: str, column: pa.ChunkedArray, counts: Counts) -> str | None:
    """Why a usable column is no feature all the same, if it is not."""
    distinct, present = len(counts.values), counts.present
    if present == 0:
        return "all values are missing"
    if distinct == 1 and present == len(column):
        return "is constant"
    is_unique = distinct == present and present >= 20
    if is_unique and pa.types.is_integer(column.type):
        steps = np.diff(np.sort(counts.values.to_numpy()))
        if IDENTIFIER_NAME.search(name) or bool((steps == 1).all()):
            return "looks like an identifier: whole numbers, no two alike"
    if is_text(column.type) and present >= 20 and distinct > max(20, 0.5 * present):
        return _describe_texts(column, counts.values)
    return None


def _describe_texts(column: pa.ChunkedArray, values: pa.Array) -> str:
    texts = values.to_pylist()
    odd = [text for text in texts if not _is_number(text)]
    if not odd:
        return "holds numbers as texts: write them without quotes"
    if len(odd) < 0.2 * len(texts):
        row = pc.index(column.cast(pa.string()), odd[0]).as_py()
        return f"would be numbers, but row {row + 1} holds {odd[0][:40]!r}"
    if all(_is_number(text.replace(",", ".")) for text in texts):
        return "would be numbers with a point for the comma: write 1.5, not 1,5"
    return "looks like an identifier or free text: most values stand only once"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
