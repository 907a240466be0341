"""Files to profiles, and to what a network is trained on."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from models import pieces
from models.errors import DataError, EncodeError
from models.ingest import Format, read_table
from models.limits import Limits
from models.pieces import profile_file
from models.schema_inference import (
    encode_features,
    encode_target,
    infer_schema,
    infer_task,
    labelled_rows,
    records,
)

FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet")
SMALL_BYTES = pieces.SMALL_BYTES
CSV_WORDS = [
    "", "NA", "nan", "1", "-2", "3.5", "1e999", "0x1", "1,5", "true", "FALSE", "yes", "2024-02-29",
    "2024-02-29 12:00:00.5", "12:30", '""', '"a ""b"""', '"two\nlines"', "é", " x ", "9" * 40,
]  # fmt: skip
TYPES = [
    pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(),
    pa.string(), pa.large_string(), pa.binary(), pa.binary(3), pa.null(), pa.date32(),
    pa.time64("us"), pa.timestamp("us", "UTC"), pa.duration("s"), pa.decimal128(38, 5),
    pa.dictionary(pa.int8(), pa.string()), pa.list_(pa.int8()), pa.struct([("a", pa.int8())]),
]  # fmt: skip


def files() -> Callable[[bytes], None]:
    """The input chooses the format, whether the file is one piece, and whether its bytes are what
    follows or a table made of what follows, with some bytes changed."""
    path = Path(tempfile.mkdtemp()) / "file"
    pieces.PIECE_BYTES, pieces.PIECE_ROWS = 256, 3

    def read(content: bytes) -> None:
        data = atheris.FuzzedDataProvider(content)
        file_format = data.PickValueInList(list(FORMATS))
        is_small = data.ConsumeBool()
        if data.ConsumeBool():
            path.write_bytes(data.ConsumeBytes(data.remaining_bytes()))
        else:
            {"csv": _write_csv, "ndjson": _write_ndjson, "parquet": _write_parquet}[file_format](
                data, path
            )
            _damage(data, path)
        pieces.SMALL_BYTES = SMALL_BYTES if is_small else 0
        _check(path, file_format)

    return read


def _write_csv(data: atheris.FuzzedDataProvider, path: Path) -> None:
    delimiter = data.PickValueInList([",", ";", "\t", "|"])
    width = data.ConsumeIntInRange(1, 4)
    lines = [
        delimiter.join(data.PickValueInList(CSV_WORDS) for _ in range(width))
        for _ in range(data.ConsumeIntInRange(0, 40))
    ]
    newline = data.PickValueInList(["\n", "\r\n"])
    path.write_text(newline.join([delimiter.join("abcd"[:width]), *lines]))


def _write_ndjson(data: atheris.FuzzedDataProvider, path: Path) -> None:
    values = [None, True, 1, 2.5, 1e400, 2**70, "x", "", "2024-02-29 12:00:00", [1], {"b": 1}]
    # Mostly one kind under one name.
    kinds = {name: data.PickValueInList(values) for name in "abc"}
    lines = []
    for _ in range(data.ConsumeIntInRange(0, 40)):
        row = {name: kinds[name] for name in "abc" if data.ConsumeProbability() < 0.9}
        if data.ConsumeProbability() < 0.05:
            row[data.PickValueInList(list("abcd"))] = data.PickValueInList(values)
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))


def _write_parquet(data: atheris.FuzzedDataProvider, path: Path) -> None:
    n_rows = data.ConsumeIntInRange(0, 30)
    columns = {}
    for name in "abcd"[: data.ConsumeIntInRange(1, 4)]:
        kind = data.PickValueInList(TYPES)
        columns[name] = pa.array([_cell(data, kind) for _ in range(n_rows)], kind)
    rows_per_group = data.ConsumeIntInRange(1, 10)
    pa.parquet.write_table(pa.table(columns), path, row_group_size=rows_per_group)


def _cell(data: atheris.FuzzedDataProvider, kind: pa.DataType) -> Any:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    value: Any = data.ConsumeIntInRange(0, 100)
    if types.is_null(kind) or data.ConsumeProbability() < 0.1:
        value = None
    elif types.is_boolean(kind):
        value = value > 50
    elif types.is_floating(kind):
        value = data.PickValueInList([0.0, -0.0, 1.5, math.nan, math.inf, 1e300, 5e-324, 7.0])
        value = np.float16(min(value, 6e4)) if types.is_float16(kind) else value
    elif types.is_binary(kind) or types.is_fixed_size_binary(kind):
        value = data.ConsumeBytes(3).ljust(3, b"\0")
    elif types.is_string(kind) or types.is_large_string(kind):
        value = data.PickValueInList(["Bern", "Oslo", "", "true", "No", "1.5", "1,5", "\xe9\0"])
    elif types.is_list(kind):
        value = [1] * data.ConsumeIntInRange(0, 2)
    elif types.is_struct(kind):
        value = {"a": 1}
    return value


def _damage(data: atheris.FuzzedDataProvider, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.ConsumeIntInRange(0, 4)):
        if content:
            content[data.ConsumeIntInRange(0, len(content) - 1)] = data.ConsumeIntInRange(0, 255)
    if data.ConsumeProbability() < 0.1:
        del content[data.ConsumeIntInRange(0, len(content)) :]
    path.write_bytes(content)


def _check(path: Path, file_format: Format) -> None:
    """In pieces or not, the file has the same rows and profile, or is refused; its rows are
    encoded to finite numbers, as for training and as for questions."""
    try:
        n_rows, profiles = profile_file(path, file_format, Limits())
        table = read_table(path, file_format)
    except DataError:
        return
    assert n_rows == table.num_rows
    json.dumps([vars(one) for one in profiles], allow_nan=False)
    target = table.column_names[-1]
    try:
        table = labelled_rows(table, target)
        rows = np.arange(table.num_rows)
        schema = infer_schema(table, target, infer_task(table, target), rows)
        inputs = encode_features(table, schema)
        targets = encode_target(table, schema)
    except DataError:
        return
    assert inputs.shape == (len(rows), schema.in_features)
    assert np.isfinite(inputs).all()
    assert np.isfinite(targets).all()
    with contextlib.suppress(DataError, EncodeError):
        np.testing.assert_array_equal(schema.encode(records(table, schema)).inputs, inputs)
