"""Files -> columns: reading training data. Nothing here is needed to serve.

Reading is Arrow's (`pyarrow`), whose errors name the row. What Arrow trusts and files may
get wrong is checked around it: texts that are not UTF-8, lines that are no objects, names,
and sizes that a small file can only claim.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from models.errors import DataError
from models.profile import is_bytes, is_text

Format = Literal["csv", "parquet", "ndjson"]

MISSING_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
DELIMITERS = ",;\t|"
MOST_COLUMNS = 10_000
MOST_CELLS = 200_000_000
MOST_BYTES = 2**30
LONGEST_NAME = 200
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
LONGEST_LINE = 1 << 24
LONGEST_HEADER = 1 << 21
# What Arrow reads at a time: no row may be longer.
BLOCK_BYTES = 1 << 25
COMPRESSED = "the file is compressed: unpack it first"
# How files begin that are often taken for a table, and what to do with them.
FOREIGN = {
    b"PK\x03\x04": "this is a zip or Excel file: save the sheet as CSV",
    b"\x1f\x8b": COMPRESSED,
    b"BZh": COMPRESSED,
    b"\xfd7zXZ": COMPRESSED,
    b"\x28\xb5\x2f\xfd": COMPRESSED,
    codecs.BOM_UTF16_LE: "the text is UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "the text is UTF-16: save it as UTF-8",
}


def read_table(path: Path, file_format: Format, texts: Sequence[str] = ()) -> pa.Table:
    """The whole file as columns. CSV may use comma, semicolon, tab or bar; its columns named in
    `texts` stay texts, whatever they look like.

    Raises:
        DataError: not readable as that format, with the row where it is known; no rows; too
            many columns, cells or bytes; a column without a name, with one that is too long or
            holds control characters, or with one that stands twice.
    """
    read = {"csv": _read_csv, "ndjson": _read_ndjson, "parquet": _read_parquet}[file_format]
    try:
        table = read(path, texts)
        names = list(table.column_names)
        for name, column in zip(names, table.itercolumns(), strict=True):
            _check_text(name, column)
    except UnicodeDecodeError as error:
        message = f"not readable as {file_format}: a column's name is not UTF-8 text"
        raise DataError("unreadable_file", message) from error
    except (pa.ArrowException, OSError) as error:
        message = f"not readable as {file_format}: {_shown(str(error))}"
        raise DataError("unreadable_file", message) from error
    _check_size(table.num_rows, len(names))
    _check_names(names)
    if table.num_rows == 0:
        raise DataError("no_rows", "the file has a header but no rows")
    return table


def _read_csv(path: Path, texts: Sequence[str]) -> pa.Table:
    line = _first_line(path)
    if len(line) > LONGEST_HEADER:
        message = f"not readable as csv: the header has more than {LONGEST_HEADER} bytes"
        raise DataError("unreadable_file", message)
    header = line.decode("utf-8-sig", errors="replace")
    delimiter = max(DELIMITERS, key=header.count)
    _check_size(1, 1 + header.count(delimiter))
    with path.open("rb") as file:
        return pyarrow.csv.read_csv(
            file,
            # One thread: only then does Arrow know the number of a broken row.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=MISSING_WORDS,
                strings_can_be_null=True,
                column_types=dict.fromkeys(texts, pa.string()),
            ),
        )


def _read_ndjson(path: Path, _: Sequence[str]) -> pa.Table:
    _first_line(path)
    _check_lines(path)
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    return pyarrow.json.read_json(path, read_options=options)


def _read_parquet(path: Path, _: Sequence[str]) -> pa.Table:
    with path.open("rb") as file:
        schema = pyarrow.parquet.ParquetFile(file).schema_arrow
        _check_names(schema.names)
        texts = [field.name for field in schema if is_text(field.type) or is_bytes(field.type)]
        parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=texts)
        metadata = parquet.metadata
        # A few bytes can stand for millions of equal values, or for very long ones.
        _check_size(metadata.num_rows, metadata.num_columns)
        groups = range(metadata.num_row_groups)
        _check_bytes(sum(metadata.row_group(i).total_byte_size for i in groups))
        flat = parquet.read([field.name for field in schema if not pa.types.is_nested(field.type)])
    _check_bytes(sum(_bytes_of_texts(column) for column in flat.itercolumns()))
    columns = [
        # Of no use, and as long as their maker likes.
        pa.chunked_array([pa.nulls(metadata.num_rows, field.type)])
        if pa.types.is_nested(field.type)
        else flat.column(field.name)
        for field in schema
    ]
    return pa.table(columns, names=schema.names)


def _bytes_of_texts(column: pa.ChunkedArray) -> int:
    """Of a dictionary's texts, each as often as it stands there."""
    if not pa.types.is_dictionary(column.type):
        return 0
    return sum(
        pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
        for chunk in column.chunks
        if is_text(chunk.type) or is_bytes(chunk.type)
    )


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        line = file.readline(LONGEST_HEADER + 1)
    for beginning, advice in FOREIGN.items():
        if line.startswith(beginning):
            raise DataError("unreadable_file", advice)
    return line


def _check_lines(path: Path) -> None:
    """Each line one JSON object: Arrow breaks on other values, and on those nested too deep."""
    names: set[int] = set()
    n_rows = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if not line.strip():
                continue
            fault = _fault_of_line(line, names)
            if fault:
                message = f"not readable as ndjson: line {number} {fault}"
                raise DataError("unreadable_file", message)
            n_rows += 1
            # A name that one line alone carries is a column of all rows.
            _check_size(n_rows, len(names))


def _fault_of_line(line: bytes, names: set[int]) -> str | None:
    if len(line) > LONGEST_LINE:
        return f"has more than {LONGEST_LINE} bytes"
    try:
        row = json.loads(line.decode("utf-8-sig"))
        _collect(row, 0, names)
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    except RecursionError:
        return "is nested too deep"
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(row, dict):
        return "is not an object"
    return None


def _collect(value: Any, path: int, names: set[int]) -> None:
    """Adds the names of an object and of those inside it, each as a hash with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            place = hash((path, name))
            names.add(place)
            _collect(inner, place, names)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, path, names)


def _check_text(name: str, column: pa.ChunkedArray) -> None:
    """Arrow trusts Parquet to hold UTF-8 where it says so, and dictionaries to be whole."""
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        message = f"column {name[:80]!r} is damaged or not UTF-8 text: {_shown(str(error))}"
        raise DataError("unreadable_file", message, name) from error


def _check_size(n_rows: int, n_columns: int) -> None:
    if n_columns > MOST_COLUMNS:
        message = f"{n_columns} columns are more than the {MOST_COLUMNS} allowed"
        raise DataError("too_many_columns", message)
    if n_rows * n_columns > MOST_CELLS:
        message = f"{n_rows} rows of {n_columns} columns are more than {MOST_CELLS} cells"
        raise DataError("too_many_cells", message)


def _check_bytes(n_bytes: int) -> None:
    if n_bytes > MOST_BYTES:
        message = f"{n_bytes} bytes when unpacked are more than the {MOST_BYTES} allowed"
        raise DataError("too_many_bytes", message)


def _check_names(names: list[str]) -> None:
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


def _shown(text: str) -> str:
    """The first line of a message, fit for a terminal."""
    line = text.partition("\n")[0][:300]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
