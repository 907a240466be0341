"""Files -> columns: reading training data. Nothing here is needed to serve.

Reading is Arrow's (`pyarrow`), whose errors name the row.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from models.errors import DataError

Format = Literal["csv", "parquet", "ndjson"]

MISSING_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
DELIMITERS = ",;\t|"


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
    names = _names(table, file_format)
    for name in names:
        if not name.strip():
            raise DataError("unnamed_column", f"column {names.index(name) + 1} has no name")
        if names.count(name) > 1:
            raise DataError("duplicate_column", f"the name {name!r} stands on two columns", name)
    if table.num_rows == 0:
        raise DataError("no_rows", "the file has a header but no rows")
    for name in names:
        _check_text(name, table.column(name))
    return table


def _names(table: pa.Table, file_format: Format) -> list[str]:
    try:
        return list(table.column_names)
    except UnicodeDecodeError as error:
        message = f"not readable as {file_format}: a column's name is not UTF-8 text"
        raise DataError("unreadable_file", message) from error


def _check_text(name: str, column: pa.ChunkedArray) -> None:
    """Arrow trusts Parquet and JSON to hold UTF-8 where they say so."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        message = f"column {name!r} is damaged or not UTF-8 text: {str(error).splitlines()[0]}"
        raise DataError("unreadable_file", message, name) from error


def _read_csv(path: Path) -> pa.Table:
    with path.open("rb") as file:
        first_line = file.readline(1 << 20)
    if first_line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("unreadable_file", "the text is UTF-16: save it as UTF-8")
    header = first_line.decode("utf-8-sig", errors="replace")
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
