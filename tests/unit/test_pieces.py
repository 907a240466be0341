"""A file in pieces beside the same file read whole; the pieces are made small for it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from models import pieces
from models.errors import DataError
from models.ingest import read_table
from models.limits import Limits
from models.pieces import ChangedTypeError, profile_file, read_pieces
from models.tally import MOST_COUNTED, profile, profile_pieces

ROWS = 1500


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1 << 13)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 256)
    monkeypatch.setattr(pieces, "SMALL_BYTES", 1 << 13)


def columns() -> dict[str, list[object]]:
    """Of every kind, and such that only the last rows tell of which."""
    rng = np.random.default_rng(0)
    last = ROWS - 1
    return {
        "id": list(range(ROWS)),
        "late_fraction": [i % 7 if i < last else 0.5 for i in range(ROWS)],
        "late_text": [i % 5 if i < last else "none" for i in range(ROWS)],
        "late_value": [None if i < last else 3 for i in range(ROWS)],
        "never": [None] * ROWS,
        "holes": [None if i % 3 == 0 else float(v) for i, v in enumerate(rng.normal(0, 1, ROWS))],
        "flag": ["yes" if v else "no" for v in rng.integers(0, 2, ROWS)],
        "truth": [bool(v) for v in rng.integers(0, 2, ROWS)],
        "city": ["Bern" if v else "Oslo, north" for v in rng.integers(0, 2, ROWS)],
        "day": ["2024-02-29"] * ROWS,
        "moment": ["2024-02-29 12:00:00"] * last + ["2024-02-29 12:00:00.5"],
        "clock": ["12:30"] * ROWS,
        "constant": [3] * ROWS,
    }


def write(path: Path, kind: str, values: dict[str, list[object]]) -> None:
    rows = list(zip(*values.values(), strict=True))
    if kind == "csv":
        texts = [
            [f'"{v}"' if isinstance(v, str) else "" if v is None else str(v) for v in row]
            for row in rows
        ]
        path.write_text("\n".join([",".join(values), *map(",".join, texts)]) + "\n")
    elif kind == "ndjson":
        path.write_text(
            "".join(json.dumps(dict(zip(values, row, strict=True))) + "\n" for row in rows)
        )
    else:
        table = pa.table(
            {
                name: [None if v is None else str(v) for v in column]
                for name, column in values.items()
            }
        )
        numbers = {name: pa.array(values[name], pa.float64()) for name in ("holes", "late_value")}
        for name, column in numbers.items():
            table = table.set_column(table.column_names.index(name), name, column)
        table = table.append_column("nested", pa.array([[1, 2]] * ROWS))
        pyarrow.parquet.write_table(table, path, row_group_size=700)


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
def test_pieces_are_profiled_as_the_whole(kind: str, tmp_path: Path) -> None:
    values = columns()
    if kind == "ndjson":
        # Arrow takes no two kinds of value under one name.
        values["late_text"] = [str(v) for v in values["late_text"]]
    path = tmp_path / "t"
    write(path, kind, values)
    if kind == "csv":
        with pytest.raises(ChangedTypeError):
            list(read_pieces(path, kind, Limits()))
    found = list(read_pieces(path, kind, Limits(), types_first=True))
    assert len(found) > 3
    assert max(piece.num_rows for piece in found) < ROWS / 2
    whole = read_table(path, kind)
    assert profile_file(path, kind, Limits()) == (ROWS, profile(whole))
    assert [str(t) for t in found[0].schema.types] == [
        str(t).replace("dictionary<values=string, indices=int32, ordered=0>", "string")
        for t in whole.schema.types
    ] or kind == "parquet"


@pytest.mark.parametrize(
    ("kind", "row", "fault"),
    [
        ("csv", b"1,2,3", "line 3002: CSV parse error: Row #3002: Expected 2 columns, got 3"),
        ("ndjson", b"[1]", "line 3001 is not an object"),
        ("ndjson", b'{"a": "x"}', "line 3001 holds a text under 'a', and lines before it a number"),
        ("ndjson", b'{"a": 1', "line 3001 is not JSON"),
    ],
)
def test_a_broken_row_of_a_later_piece_is_named_by_its_line(
    kind: str, row: bytes, fault: str, tmp_path: Path
) -> None:
    good = b"100000,2" if kind == "csv" else b'{"a": 100000, "b": 2}'
    lines = [b"a,b"] * (kind == "csv") + [good] * 3000 + [row] + [good] * 500
    path = tmp_path / "t"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError) as caught:
        profile_file(path, kind, Limits())
    assert fault in str(caught.value)


def test_a_row_longer_than_a_piece_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("a,b\n" + "1,2\n" * 3000 + f"1,{'x' * (1 << 15)}\n")
    with pytest.raises(DataError) as caught:
        profile_file(path, "csv", Limits())
    assert caught.value.code == "row_too_long"


def test_a_line_is_one_of_the_file_also_behind_texts_over_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b'a,b\n1,"x\ny\nz"\n\n2,3\n4\n')
    with pytest.raises(DataError, match="line 7: CSV parse error: Row #4"):
        read_table(path, "csv")


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(rows=ROWS - 1), "too_many_rows"),
        (Limits(columns=3), "too_many_columns"),
        (Limits(cell_bytes=10), "cell_too_long"),
        (Limits(seconds=0.0), "too_slow"),
    ],
)
def test_limits(kind: str, limits: Limits, code: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    values = columns() | {"late_text": ["x" if i < ROWS - 1 else "x" * 11 for i in range(ROWS)]}
    write(path, kind, {n: v for n, v in values.items() if n not in ("city", "day", "moment")})
    with pytest.raises(DataError) as caught:
        profile_file(path, kind, limits)
    assert caught.value.code == code
    if code == "cell_too_long":
        assert f"'late_text' holds a text of 11 bytes in row {ROWS}," in str(caught.value)


def test_many_different_values_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the smallest 65,536 of n hashes: a standard error of 0.4 %, and five of these."""
    n = 200_000
    rng = np.random.default_rng(0)
    numbers = rng.normal(0, 1, n)
    texts = [f"t{i}" for i in rng.integers(0, n, n)]
    table = pa.table(
        {"number": numbers, "twice": np.concatenate([numbers[: n // 2]] * 2), "text": texts}
    )
    rows, found = profile_pieces(table.slice(at, 50_000) for at in range(0, n, 50_000))
    assert rows == n
    for column, truth in zip(found, (n, n // 2, len(set(texts))), strict=True):
        assert not column.distinct_is_exact
        assert column.distinct == pytest.approx(truth, rel=5 / np.sqrt(MOST_COUNTED))
    assert (found[0].minimum, found[0].maximum) == (numbers.min(), numbers.max())
    few = profile_pieces([pa.table({"x": np.arange(MOST_COUNTED) % 1000})])[1][0]
    assert (few.distinct, few.distinct_is_exact) == (1000, True)


@pytest.mark.parametrize("n_rows", [2, 5000])
def test_rows_without_any_column_are_refused(n_rows: int, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("{}\n" * n_rows)
    with pytest.raises(DataError, match="the file has no columns"):
        profile_file(path, "ndjson", Limits())
