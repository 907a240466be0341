"""Files -> columns: reading training data. Nothing here is needed to serve.

Reading is Arrow's (`pyarrow`), whose errors name the row. What Arrow trusts and files may
get wrong is checked around it: texts that are not UTF-8, lines that are no objects, names,
and sizes that a small file can only claim (`models.limits`).
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from models.errors import DataError
from models.limits import Limits, check_bytes, check_names, lengths_of, shown
from models.profile import is_bytes, is_text

Format = Literal["csv", "parquet", "ndjson"]

MISSING_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
DELIMITERS = ",;\t|"
LONGEST_LINE = 1 << 24
LONGEST_HEADER = 1 << 21
# What Arrow reads at a time: no row may be longer.
BLOCK_BYTES = 1 << 25
# How Arrow names a broken record of CSV: counted from 1, the header among them.
RECORD = re.compile(r"\bRow #(\d+): ")
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


def read_table(
    path: Path, file_format: Format, texts: Sequence[str] = (), limits: Limits | None = None
) -> pa.Table:
    """The whole file as columns. CSV may use comma, semicolon, tab or bar; its columns named in
    `texts` stay texts, whatever they look like.

    Raises:
        DataError: not readable as that format, with the line or row where it is known; no rows;
            too many columns, rows, cells or bytes, or too long a text; a column without a name,
            with one that is too long or holds control characters, or with one that stands twice.
    """
    limits = limits or Limits()
    read = {"csv": _read_csv, "ndjson": _read_ndjson, "parquet": _read_parquet}[file_format]
    with naming_faults(path, file_format):
        table = read(path, texts, limits)
        limits.check_cells(table, 0)
    limits.check_size(table.num_rows, table.num_columns)
    check_names(list(table.column_names))
    if table.num_rows == 0:
        raise DataError("no_rows", "the file has a header but no rows")
    return table


@contextlib.contextmanager
def naming_faults(path: Path, file_format: Format) -> Iterator[None]:
    """Makes of what Arrow raises a `DataError` that says where.

    Raises:
        DataError: what is in the block raised.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        message = f"not readable as {file_format}: a column's name is not UTF-8 text"
        raise DataError("unreadable_file", message) from error
    except (pa.ArrowException, OSError) as error:
        place = ""
        record = RECORD.search(str(error)) if file_format == "csv" else None
        if record:
            place = f"line {_line_of(path, int(record[1]))}: "
        message = f"not readable as {file_format}: {place}{shown(error)}"
        raise DataError("unreadable_file", message) from error


def _line_of(path: Path, record: int) -> int:
    """The line on which a record of CSV begins, as texts in quotes may go over several."""
    begun = quotes = line_number = 0
    with path.open("rb") as file:
        while begun < record and (line := file.readline(LONGEST_LINE)):
            line_number += 1
            # Arrow passes over empty lines.
            begun += quotes % 2 == 0 and bool(line.strip(b"\r\n"))
            quotes += line.count(b'"')
    return line_number


def first_delimiter(path: Path, limits: Limits) -> str:
    """The delimiter of a CSV file, as its header has it.

    Raises:
        DataError: it is no such file, or has too many columns.
    """
    line = _first_line(path)
    if len(line) > LONGEST_HEADER:
        message = f"not readable as csv: the header has more than {LONGEST_HEADER} bytes"
        raise DataError("unreadable_file", message)
    header = line.decode("utf-8-sig", errors="replace")
    delimiter = max(DELIMITERS, key=header.count)
    limits.check_size(1, 1 + header.count(delimiter))
    return delimiter


def _read_csv(path: Path, texts: Sequence[str], limits: Limits) -> pa.Table:
    delimiter = first_delimiter(path, limits)
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


def _read_ndjson(path: Path, _: Sequence[str], limits: Limits) -> pa.Table:
    for _line in checked_lines(path, limits):
        pass
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    return pyarrow.json.read_json(path, read_options=options)


def _read_parquet(path: Path, _: Sequence[str], limits: Limits) -> pa.Table:
    parts = parquet_parts(path, limits)
    with path.open("rb") as file:
        parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=parts.texts)
        flat = parquet.read(parts.flat)
    check_bytes(parts.bytes_of_texts(flat))
    return parts.complete(flat)


@dataclass(frozen=True)
class ParquetParts:
    """A Parquet file's columns: all of them, those that are not nested, and those of texts."""

    schema: pa.Schema
    flat: list[str]
    texts: list[str]
    n_bytes: int

    def complete(self, flat: pa.Table) -> pa.Table:
        """All columns from the flat ones; nested ones, of no use and as long as their maker
        likes, are nulls."""
        columns = [
            flat.column(field.name)
            if field.name in self.flat
            else pa.chunked_array([pa.nulls(flat.num_rows, field.type)])
            for field in self.schema
        ]
        return pa.table(columns, names=self.schema.names)

    def bytes_of_texts(self, flat: pa.Table) -> int:
        """Of all texts, those of dictionaries as often as they stand there."""
        return sum(
            pc.sum(lengths_of(column)).as_py() or 0
            for column in flat.itercolumns()
            if is_text(column.type) or is_bytes(column.type)
        )


def parquet_parts(path: Path, limits: Limits) -> ParquetParts:
    """What the file says of itself.

    Raises:
        DataError: a few bytes claim to stand for too many values, or columns' names are wrong.
    """
    with path.open("rb") as file:
        parquet = pyarrow.parquet.ParquetFile(file)
        schema, metadata = parquet.schema_arrow, parquet.metadata
    check_names(schema.names)
    limits.check_size(metadata.num_rows, metadata.num_columns)
    groups = range(metadata.num_row_groups)
    n_bytes = sum(metadata.row_group(i).total_byte_size for i in groups)
    check_bytes(n_bytes)
    return ParquetParts(
        schema,
        [field.name for field in schema if not pa.types.is_nested(field.type)],
        [field.name for field in schema if is_text(field.type) or is_bytes(field.type)],
        n_bytes,
    )


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        line = file.readline(LONGEST_HEADER + 1)
    for beginning, advice in FOREIGN.items():
        if line.startswith(beginning):
            raise DataError("unreadable_file", advice)
    return line


def checked_lines(path: Path, limits: Limits) -> Iterator[bytes]:
    """The lines, each one JSON object: Arrow breaks on other values, and on those nested too
    deep.

    Raises:
        DataError: with the line that is something else.
    """
    _first_line(path)
    names: dict[int, str] = {}
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
            limits.check_size(n_rows, len(names))
            limits.check_time()
            yield line


def _fault_of_line(line: bytes, names: dict[int, str]) -> str | None:
    if len(line) > LONGEST_LINE:
        return f"has more than {LONGEST_LINE} bytes"
    try:
        row = json.loads(line.decode("utf-8-sig"))
        fault = _collect(row, 0, names)
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    except RecursionError:
        return "is nested too deep"
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(row, dict):
        return "is not an object"
    return fault


def _collect(value: Any, path: int, names: dict[int, str]) -> str | None:
    """Adds the names of an object and of those inside it, each as a hash with its path and what
    kind of value it has; the fault, if that is another kind than on a line before."""
    fault = None
    if isinstance(value, dict):
        for name, inner in value.items():
            place = hash((path, name))
            kind, before = _kind_of(inner), names.get(place)
            names[place] = kind or before or ""
            if kind and before and kind != before:
                fault = fault or f"holds {kind} under {name[:80]!r}, and lines before it {before}"
            fault = _collect(inner, place, names) or fault
    elif isinstance(value, list):
        for inner in value:
            fault = _collect(inner, path, names) or fault
    return fault


def _kind_of(value: Any) -> str | None:
    if value is None:
        return None
    kinds = {bool: "true or false", str: "a text", dict: "an object", list: "a list"}
    return kinds.get(type(value), "a number")
