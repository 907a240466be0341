"""How large a table may be, whatever its file claims."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import DataError
from models.profile import is_bytes, is_text

MOST_COLUMNS = 10_000
MOST_CELLS = 200_000_000
MOST_BYTES = 2**30
LONGEST_NAME = 200
LONGEST_CELL = 1 << 24
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Limits:
    """The most rows, columns, bytes of one text and seconds (of `time.monotonic`) until reading
    has to be over; none of the first three is above the constants here."""

    rows: int = MOST_CELLS
    columns: int = MOST_COLUMNS
    cell_bytes: int = LONGEST_CELL
    seconds: float = float("inf")
    started: float = field(default_factory=time.monotonic)

    def check_time(self) -> None:
        """Nothing, if there is time left.

        Raises:
            DataError: there is none.
        """
        if time.monotonic() - self.started > self.seconds:
            message = f"reading it takes longer than the {self.seconds:g} s allowed"
            raise DataError("too_slow", message)

    def check_size(self, n_rows: int, n_columns: int) -> None:
        """Nothing, if so many are allowed.

        Raises:
            DataError: they are not.
        """
        if n_columns > self.columns:
            message = f"{n_columns} columns are more than the {self.columns} allowed"
            raise DataError("too_many_columns", message)
        if n_rows > self.rows:
            raise DataError("too_many_rows", f"more than the {self.rows} rows allowed")
        if n_rows * n_columns > MOST_CELLS:
            message = f"{n_rows} rows of {n_columns} columns are more than {MOST_CELLS} cells"
            raise DataError("too_many_cells", message)

    def check_cells(self, piece: pa.Table, first_row: int) -> None:
        """Nothing, if all texts are whole, are UTF-8, and not too long; the piece's first row is
        that of the file, counted from 0.

        Raises:
            DataError: with the column, and the row.
        """
        for name, column in zip(piece.column_names, piece.itercolumns(), strict=True):
            try:
                # Arrow trusts Parquet to hold UTF-8 where it says so, and dictionaries to be whole.
                column.validate(full=True)
            except pa.ArrowException as error:
                message = f"column {name[:80]!r} is damaged or not UTF-8 text: {shown(error)}"
                raise DataError("unreadable_file", message, name) from error
            if is_text(column.type) or is_bytes(column.type):
                lengths = lengths_of(column)
                if (pc.max(lengths).as_py() or 0) > self.cell_bytes:
                    row = pc.index(pc.greater(lengths, self.cell_bytes), True).as_py()
                    message = (
                        f"column {name[:80]!r} holds a text of {lengths[row].as_py()} bytes in row "
                        f"{first_row + row + 1}, and {self.cell_bytes} are allowed"
                    )
                    raise DataError("cell_too_long", message, name)


def check_bytes(n_bytes: int) -> None:
    """Nothing, if a file may unpack to so many.

    Raises:
        DataError: it may not.
    """
    if n_bytes > MOST_BYTES:
        message = f"{n_bytes} bytes when unpacked are more than the {MOST_BYTES} allowed"
        raise DataError("too_many_bytes", message)


def check_names(names: list[str]) -> None:
    """Nothing, if columns may have these names.

    Raises:
        DataError: there is none, or one is missing, too long, holds control characters, or stands
            twice.
    """
    if not names:
        raise DataError("no_columns", "the file has no columns")
    seen = set()
    for i, name in enumerate(names):
        if not name.strip():
            raise DataError("unnamed_column", f"column {i + 1} has no name")
        if len(name) > LONGEST_NAME:
            message = f"the name of column {i + 1} has more than {LONGEST_NAME} characters"
            raise DataError("bad_column_name", message)
        if CONTROL.search(name):
            message = f"the name of column {i + 1} holds control characters: {name!r}"
            raise DataError("bad_column_name", message)
        if name in seen:
            raise DataError("duplicate_column", f"the name {name!r} stands on two columns", name)
        seen.add(name)


def shown(error: Exception) -> str:
    """The first line of a message, fit for a terminal."""
    line = str(error).partition("\n")[0][:300]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def lengths_of(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """The bytes of each text, of dictionaries as often as it stands there."""
    chunks = [
        pc.binary_length(chunk.dictionary).take(chunk.indices)
        if pa.types.is_dictionary(chunk.type)
        else pc.binary_length(chunk)
        for chunk in texts.chunks
    ]
    return pa.chunked_array([chunk.cast(pa.int64()) for chunk in chunks], pa.int64())
