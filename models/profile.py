"""Columns -> what is in them: kinds, missing values, identifiers, constants."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.features import BOOLEAN_WORDS

Kind = Literal["number", "category", "boolean", "unusable"]

IDENTIFIER_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|index|rownum|row_?id)$|^unnamed", re.IGNORECASE
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


def unusable_note(kind: pa.DataType) -> str:
    """Why no feature and no target can be made of it."""
    if pa.types.is_temporal(kind):
        return "dates and times are not used: derive numbers from them, such as days since a start"
    if is_bytes(kind):
        return "holds bytes that are not UTF-8 text"
    return f"holds nested or unknown values ({str(kind)[:80]})"


def normalised(column: pa.ChunkedArray, *, is_boolean: bool = False) -> pa.ChunkedArray:
    """Numbers as float64 with NaN as missing; everything else as text, booleans in lower case."""
    if is_number(column.type):
        numbers = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    texts = column.cast(pa.string())
    return pc.utf8_lower(texts) if is_boolean else texts


@dataclass(frozen=True)
class Counts:
    """The different values that are not missing, most frequent first: how often each is, and
    the row, from 0, in which it stands first.

    Of a long column `values` may be only some of them (`models.tally`); `distinct` is then an
    estimate.
    """

    values: pa.Array
    counts: np.ndarray
    first_rows: np.ndarray
    present: int
    distinct: int

    @property
    def is_exact(self) -> bool:
        return self.distinct == len(self.values)

    @property
    def are_unique(self) -> bool:
        """Whether no two are alike, as far as can be told."""
        slack = 0.0 if self.is_exact else 0.05
        return abs(self.distinct - self.present) <= slack * self.present


def tabulate(values: pa.ChunkedArray, first_row: int = 0) -> Counts:
    """The different values that are not missing, in the order of their first places; the first
    of these rows is `first_row`."""
    rows = first_row + np.flatnonzero(values.is_valid().to_numpy())
    return merge(values.drop_null().combine_chunks(), np.ones(len(rows), np.int64), rows)


def merge(values: pa.Array, counts: np.ndarray, rows: np.ndarray) -> Counts:
    """Each value once, with the sum of its counts and the first of its rows, which ascend."""
    encoded = values.dictionary_encode()
    places = encoded.indices.to_numpy()
    n = len(encoded.dictionary)
    first_rows = np.empty(n, np.int64)
    # Of those with the same place the last one stays, which is the first.
    first_rows[places[::-1]] = rows[::-1]
    sums = np.zeros(n, np.int64)
    np.add.at(sums, places, counts)
    return Counts(encoded.dictionary, sums, first_rows, int(sums.sum()), n)


def count_values(values: pa.ChunkedArray) -> Counts:
    """Its different values and their numbers."""
    return by_frequency(tabulate(values))


def by_frequency(found: Counts, most: int | None = None) -> Counts:
    """The same, most frequent first; with `most` only so many of the values."""
    table = pa.table({"values": found.values, "counts": found.counts})
    order = pc.sort_indices(table, [("counts", "descending"), ("values", "ascending")])[:most]
    places = order.to_numpy()
    return replace(
        found,
        values=found.values.take(order),
        counts=found.counts[places],
        first_rows=found.first_rows[places],
    )


def reason_to_ignore(name: str, kind: pa.DataType, n_rows: int, counts: Counts) -> str | None:
    """Why a usable column is no feature all the same, if it is not."""
    distinct, present = counts.distinct, counts.present
    if present == 0:
        return "all values are missing"
    if distinct == 1 and present == n_rows:
        return "is constant"
    if counts.are_unique and present >= 20 and pa.types.is_integer(kind):
        steps = np.diff(np.sort(counts.values.to_numpy()))
        if IDENTIFIER_NAME.search(name) or bool((steps == 1).all()):
            return "looks like an identifier: whole numbers, no two alike"
    if is_text(kind) and present >= 20 and distinct > max(20, 0.5 * present):
        return _describe_texts(counts)
    return None


def _describe_texts(counts: Counts) -> str:
    texts = counts.values.to_pylist()
    odd = [text for text in texts if not _is_number(text)]
    if not odd:
        return "holds numbers as texts: write them without quotes"
    if len(odd) < 0.2 * len(texts):
        row = counts.first_rows[texts.index(odd[0])] + 1
        return f"would be numbers, but row {row} holds {odd[0][:40]!r}"
    if all(_is_number(text.replace(",", ".")) for text in texts):
        return "would be numbers with a point for the comma: write 1.5, not 1,5"
    return "looks like an identifier or free text: most values stand only once"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
