"""Files -> columns, a piece at a time: what need not fit into memory to be looked at.

A small file is one piece, read as for training. The columns of a larger one are of the types that
its first piece has, as long as all others agree; where they do not, the whole file is read for the
types first, and then again in them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from models.errors import DataError
from models.ingest import (
    MISSING_WORDS,
    Format,
    checked_lines,
    first_delimiter,
    naming_faults,
    parquet_parts,
    read_table,
)
from models.limits import Limits, check_bytes, check_names
from models.tally import ColumnProfile, profile_pieces

# Larger files, packed or not, come in pieces; of CSV Arrow reads 32 ahead.
SMALL_BYTES = 1 << 23
PIECE_BYTES = 1 << 22
PIECE_ROWS = 1 << 16
TIME = r"^\d{2}:\d{2}(:\d{2})?$"
# The types that Arrow tries for a column of CSV, in its order; what fits none is text.
CHAIN = [
    pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"),
    pa.timestamp("ns"), pa.float64(), pa.string(), pa.binary(),
]  # fmt: skip


class ChangedTypeError(Exception):
    """A later piece of a CSV file is not of the first one's types."""


def profile_file(
    path: Path, file_format: Format, limits: Limits
) -> tuple[int, list[ColumnProfile]]:
    """The number of rows, and one profile for each column.

    Raises:
        DataError: as `models.ingest.read_table` does.
    """
    try:
        return profile_pieces(read_pieces(path, file_format, limits))
    except ChangedTypeError:
        return profile_pieces(read_pieces(path, file_format, limits, types_first=True))


def read_pieces(
    path: Path, file_format: Format, limits: Limits, *, types_first: bool = False
) -> Iterator[pa.Table]:
    """The file's rows, in order, as tables with the same columns of the same types.

    Raises:
        DataError: as `models.ingest.read_table` does.
        ChangedTypeError: only with `types_first` the file can be read in pieces.
    """
    if _is_small(path, file_format):
        yield read_table(path, file_format, limits=limits)
        return
    n_rows = 0
    with naming_faults(path, file_format):
        for piece in _pieces_of(path, file_format, limits, types_first):
            if n_rows == 0:
                check_names(list(piece.column_names))
            limits.check_time()
            limits.check_cells(piece, n_rows)
            n_rows += piece.num_rows
            limits.check_size(n_rows, piece.num_columns)
            yield piece
    if n_rows == 0:
        raise DataError("no_rows", "the file has a header but no rows")


def _pieces_of(
    path: Path, file_format: Format, limits: Limits, types_first: bool
) -> Iterator[pa.Table]:
    if file_format == "ndjson":
        return _ndjson_pieces(path, limits)
    if file_format == "parquet":
        return _parquet_pieces(path, limits)
    return _csv_pieces(path, limits) if types_first else _csv_pieces_as_begun(path, limits)


def _is_small(path: Path, file_format: Format) -> bool:
    size = path.stat().st_size
    if file_format == "parquet" and size <= SMALL_BYTES:
        with naming_faults(path, file_format):
            size = max(size, parquet_parts(path, Limits()).n_bytes)
    return size <= SMALL_BYTES


def _csv_pieces(path: Path, limits: Limits) -> Iterator[pa.Table]:
    delimiter = first_delimiter(path, limits)
    types: dict[str, int] = {}
    for piece in _csv_batches(path, delimiter, {}):
        limits.check_time()
        check_names(list(piece.column_names))
        for name, column in zip(piece.column_names, piece.itercolumns(), strict=True):
            types[name] = _loosen(types.get(name, 0), column)
    yield from _csv_batches(path, delimiter, {name: CHAIN[at] for name, at in types.items()})


def _csv_pieces_as_begun(path: Path, limits: Limits) -> Iterator[pa.Table]:
    delimiter = first_delimiter(path, limits)
    try:
        with path.open("rb") as file:
            for batch in _csv_reader(file, delimiter, {}):
                yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        if "conversion error" in str(error):
            raise ChangedTypeError from error
        if "straddl" in str(error):
            message = f"a row has more than the {PIECE_BYTES} bytes allowed in a large file"
            raise DataError("row_too_long", message) from error
        raise


def _csv_batches(path: Path, delimiter: str, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    """All columns in the types given; without any, as bytes."""
    if not types:
        with path.open("rb") as file:
            names = _csv_reader(file, delimiter, {}).schema.names
        types = dict.fromkeys(names, pa.binary())
    with path.open("rb") as file:
        for batch in _csv_reader(file, delimiter, types):
            yield pa.Table.from_batches([batch])


def _csv_reader(file: Any, delimiter: str, types: dict[str, pa.DataType]) -> Any:
    return pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=PIECE_BYTES),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=MISSING_WORDS, strings_can_be_null=True, column_types=types
        ),
    )


def _loosen(at: int, column: pa.ChunkedArray) -> int:
    """The first type of the chain, from there on, that all these bytes can be read as."""
    if pa.types.is_null(CHAIN[at]) and column.null_count == len(column):
        return at
    try:
        texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    except pa.ArrowInvalid:
        return len(CHAIN) - 1
    at = max(at, 1)
    while not _can_read(texts, CHAIN[at]):
        at += 1
    return at


def _can_read(texts: pa.ChunkedArray, kind: pa.DataType) -> bool:
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return True
    if pa.types.is_time(kind):
        return bool(pc.all(pc.match_substring_regex(texts, TIME)).as_py())
    try:
        texts.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _ndjson_pieces(path: Path, limits: Limits) -> Iterator[pa.Table]:
    schema = pa.schema([])
    for lines in _blocks(path, limits):
        found = pyarrow.json.read_json(io.BytesIO(lines), _whole(lines)).schema
        schema = _unified(schema, found)
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    for lines in _blocks(path, limits):
        piece = pyarrow.json.read_json(io.BytesIO(lines), _whole(lines), options)
        yield _without_nested(piece)


def _blocks(path: Path, limits: Limits) -> Iterator[bytes]:
    block: list[bytes] = []
    size = 0
    for line in checked_lines(path, limits):
        block.append(line)
        size += len(line)
        if size > PIECE_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


def _whole(lines: bytes) -> Any:
    return pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)


def _unified(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """The columns of both; texts of which only some are times are texts."""
    fields = {field.name: field for field in one}
    for field in other:
        known = fields.get(field.name)
        if known is not None and {str(known.type), str(field.type)} == {"string", "timestamp[s]"}:
            field = pa.field(field.name, pa.string())  # noqa: PLW2901
        elif known is not None:
            field = pa.unify_schemas(  # noqa: PLW2901
                [pa.schema([known]), pa.schema([field])], promote_options="permissive"
            ).field(0)
        fields[field.name] = field
    return pa.schema(list(fields.values()))


def _without_nested(piece: pa.Table) -> pa.Table:
    """Nested values are of no use, and as long as their maker likes."""
    for i, field in enumerate(piece.schema):
        if pa.types.is_nested(field.type):
            piece = piece.set_column(i, field, pa.nulls(piece.num_rows, field.type))
    return piece


def _parquet_pieces(path: Path, limits: Limits) -> Iterator[pa.Table]:
    parts = parquet_parts(path, limits)
    n_bytes = 0
    with path.open("rb") as file:
        parquet = pyarrow.parquet.ParquetFile(
            file, read_dictionary=parts.texts, buffer_size=1 << 20, pre_buffer=False
        )
        for batch in parquet.iter_batches(PIECE_ROWS, columns=parts.flat):
            n_bytes += parts.bytes_of_texts(pa.Table.from_batches([batch]))
            check_bytes(n_bytes)
            yield parts.complete(pa.Table.from_batches([batch]))
