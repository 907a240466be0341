"""Columns that come piece after piece -> what is in them, in memory that does not grow.

Different values are counted exactly up to a few ten thousand. Beyond, their number is estimated
from the smallest of their hashes (Bar-Yossef et al. 2002, "Counting distinct elements in a data
stream", algorithm 1), to within about 0.4 % (one standard error) for files of up to 64 columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.profile import (
    Counts,
    Kind,
    by_frequency,
    column_kind,
    is_number,
    is_text,
    merge,
    normalised,
    reason_to_ignore,
    tabulate,
    unusable_note,
)

# Different values of one column, and of all columns together, that are counted one by one.
MOST_COUNTED = 1 << 16
ALL_COUNTED = 1 << 22
LEAST_COUNTED = 1 << 10
COUNTED_BYTES = 1 << 22
HASHES = 2.0**64
# Of texts that are hashed at once, at forty times their size.
HASHED_BYTES = 1 << 18
POWERS = np.cumprod(np.full(4096, 0x9E3779B97F4A7C15, np.uint64))


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
    distinct_is_exact: bool = True


def profile(table: pa.Table) -> list[ColumnProfile]:
    """One profile for each column, in the file's order."""
    return profile_pieces([table])[1]


def profile_pieces(pieces: Iterable[pa.Table]) -> tuple[int, list[ColumnProfile]]:
    """The number of rows, and one profile for each column, of tables of the same columns."""
    tallies: list[Tally] = []
    n_rows = 0
    for piece in pieces:
        if not tallies:
            room = min(MOST_COUNTED, max(LEAST_COUNTED, ALL_COUNTED // piece.num_columns))
            tallies = [Tally(name, room) for name in piece.column_names]
        for tally, column in zip(tallies, piece.itercolumns(), strict=True):
            tally.add(column, n_rows)
        n_rows += piece.num_rows
    return n_rows, [tally.profile() for tally in tallies]


class Tally:
    """One column; of its different values at most `room` are kept."""

    def __init__(self, name: str, room: int) -> None:
        self._name = name
        self._room = room
        self._rows = self._missing = 0
        self._kind = pa.null()
        self._found: Counts | None = None
        self._sketch: _Sketch | None = None
        self._range = (np.inf, -np.inf)

    def add(self, column: pa.ChunkedArray, first_row: int) -> None:
        """Takes in the next rows, of which the first is that of the file."""
        self._rows += len(column)
        self._kind = column.type
        if not (is_number(column.type) or pa.types.is_boolean(column.type) or is_text(column.type)):
            self._missing += column.null_count
            return
        if pa.types.is_dictionary(column.type):
            self._missing += column.null_count
            self._take(_tabulate_dictionary(column, first_row))
            return
        values = normalised(column)
        self._missing += values.null_count
        if is_number(column.type):
            self._widen(values)
        at = 0
        while self._sketch is None and at < len(values):
            # No more at once than may turn out to be different.
            self._take(tabulate(values.slice(at, self._room), first_row + at))
            at += self._room
        if self._sketch is not None:
            self._sketch.add(values.slice(at).drop_null())

    def profile(self) -> ColumnProfile:
        """What the column holds."""
        if self._found is None:
            note = unusable_note(self._kind)
            return ColumnProfile(self._name, "unusable", self._missing, 0, note=note)
        present = self._rows - self._missing
        counts = by_frequency(self._found)
        if self._sketch is not None:
            distinct = min(present, max(self._sketch.estimate(), len(counts.values)))
            counts = replace(counts, distinct=distinct, present=present)
        kind = column_kind(pa.chunked_array([counts.values]))
        if pa.types.is_boolean(self._kind):
            kind = "boolean"
        minimum, maximum = self._range if self._range[0] <= self._range[1] else (None, None)
        if kind == "boolean":
            lower = pc.utf8_lower(counts.values)
            order = np.argsort(counts.first_rows)
            parts = (lower.take(order), counts.counts[order], counts.first_rows[order])
            counts = by_frequency(merge(*parts))
        return ColumnProfile(
            self._name,
            kind,
            self._missing,
            counts.distinct,
            minimum,
            maximum,
            tuple(str(value)[:80] for value in counts.values[:5].to_pylist()),
            reason_to_ignore(self._name, self._kind, self._rows, counts),
            self._sketch is None,
        )

    def _widen(self, values: pa.ChunkedArray) -> None:
        found = pc.min_max(values.filter(pc.is_finite(values)))
        if found["min"].is_valid:
            self._range = (
                min(self._range[0], found["min"].as_py()),
                max(self._range[1], found["max"].as_py()),
            )

    def _take(self, found: Counts) -> None:
        if self._sketch is not None:
            self._sketch.add(pa.chunked_array([found.values]))
            return
        if self._found is not None:
            found = _join([self._found, found])
        if found.distinct > self._room or found.values.nbytes > COUNTED_BYTES:
            self._sketch = _Sketch(self._room)
            self._sketch.add(pa.chunked_array([found.values]))
            # The most frequent stay, for examples and notes.
            found = by_frequency(found, LEAST_COUNTED)
        self._found = found


class _Sketch:
    """The smallest hashes of the different values seen, at most so many."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._smallest = np.empty(0, np.uint64)

    def add(self, values: pa.ChunkedArray) -> None:
        hashes = _hash_numbers(values) if is_number(values.type) else _hash_texts(values)
        if len(self._smallest) == self._room:
            hashes = hashes[hashes < self._smallest[-1]]
        hashes = np.sort(np.concatenate([self._smallest, hashes]))
        is_new = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
        self._smallest = hashes[is_new][: self._room]

    def estimate(self) -> int:
        if len(self._smallest) < self._room:
            return len(self._smallest)
        return round((self._room - 1) / (float(self._smallest[-1]) / HASHES))


def _hash_numbers(values: pa.ChunkedArray) -> np.ndarray:
    # Adding 0 makes one of both zeros.
    return _mix((values.to_numpy() + 0.0).view(np.uint64))


def _hash_texts(values: pa.ChunkedArray) -> np.ndarray:
    """Polynomials over the texts' bytes."""
    n_slices = 1 + values.nbytes // HASHED_BYTES
    step = 1 + len(values) // n_slices
    parts = [
        _hash_slice(chunk.slice(at, step).cast(pa.large_binary()))
        for chunk in values.chunks
        for at in range(0, len(chunk), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _hash_slice(texts: pa.LargeBinaryArray) -> np.ndarray:
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    begin = ends[0]
    codes = np.frombuffer(content or b"", np.uint8)[begin : ends[-1]]
    lengths = np.diff(ends)
    places = np.arange(len(codes)) - np.repeat(ends[:-1] - begin, lengths)
    terms = (codes + np.uint64(1)) * POWERS[places % len(POWERS)]
    sums = np.append(np.uint64(0), np.cumsum(terms))
    return _mix(sums[ends[1:] - begin] - sums[ends[:-1] - begin] + lengths.view(np.uint64))


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: np.ndarray = bits ^ (bits >> np.uint64(31))
    return hashes


def _tabulate_dictionary(column: pa.ChunkedArray, first_row: int) -> Counts:
    """As `tabulate`, without a copy of a text for each row."""
    parts = []
    for chunk in column.chunks:
        found = tabulate(pa.chunked_array([chunk.indices]), first_row)
        texts = chunk.dictionary.cast(pa.string()).take(found.values)
        parts.append(replace(found, values=texts))
        first_row += len(chunk)
    return _join(parts)


def _join(parts: Sequence[Counts]) -> Counts:
    """Of rows one after the other."""
    return merge(
        pa.concat_arrays([part.values for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.first_rows for part in parts]),
    )
