"""Files -> columns; files are written here by hand or by Arrow."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from models.errors import DataError
from models.ingest import LONGEST_LINE, read_table
from models.limits import MOST_CELLS, MOST_COLUMNS
from models.tally import profile


def csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def code_of(path: Path, kind: str = "csv") -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        read_table(path, kind)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_with_any_usual_delimiter(tmp_path: Path, delimiter: str) -> None:
    text = "a,b,c\n1,x,true\n2.5,,false\n".replace(",", delimiter)
    table = read_table(csv(tmp_path, text), "csv")
    assert table.to_pydict() == {"a": [1.0, 2.5], "b": ["x", None], "c": [True, False]}


def test_csv_with_quotes_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, '\ufeffa,b\r\n1,"x, ""y""\nz"\r\n'), "csv")
    assert table.to_pydict() == {"a": [1], "b": ['x, "y"\nz']}


def test_the_three_formats_read_the_same(tmp_path: Path) -> None:
    table = pa.table({"n": [1.5, None, 3.0], "c": ["x", "y", None], "b": [True, False, True]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.ndjson").write_text(
        '{"n": 1.5, "c": "x", "b": true}\n{"n": null, "c": "y", "b": false}\n{"n": 3, "b": true}\n'
    )
    (tmp_path / "t.csv").write_text("n,c,b\n1.5,x,true\n,y,false\n3,,true\n")
    for kind in ("parquet", "ndjson", "csv"):
        assert read_table(tmp_path / f"t.{kind}", kind).to_pydict() == table.to_pydict()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            "a,b\n1,2\n3\n",
            "unreadable_file",
            "line 3: CSV parse error: Row #3",
        ),
        (
            "a,b\n1,2\n3,4,5\n",
            "unreadable_file",
            "line 3: CSV parse error: Row #3",
        ),
        ("", "unreadable_file", "Empty CSV file"),
        ("a,b\n", "no_rows", "no rows"),
        ("a,a\n1,2\n", "duplicate_column", "'a' stands on two columns"),
        ("a,\n1,2\n", "unnamed_column", "column 2 has no name"),
        (b"a,b\n1,2\n\xff\xfe,3\n\x00", "unreadable_file", "Row #4: Expected 2 columns"),
        (b"a,\xff\n1,2\n", "unreadable_file", "a column's name is not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16"), "unreadable_file", "UTF-16: save it as UTF-8"),
    ],
)
def test_an_unreadable_csv_says_where(
    tmp_path: Path, text: str | bytes, code: str, message: str
) -> None:
    found, detail = code_of(csv(tmp_path, text))
    assert found == code
    assert message in detail


def test_unreadable_json_and_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text('{"a": 1}\n{"a": \n')
    assert code_of(path, "ndjson")[0] == "unreadable_file"
    path.write_text('{"a": 1}\n{"a": "x"}\n')
    assert (
        "line 2 holds a text under 'a', and lines before it a number" in code_of(path, "ndjson")[1]
    )
    path.write_bytes(b"PAR1 and then nothing")
    assert code_of(path, "parquet")[0] == "unreadable_file"


def test_text_that_is_not_utf8_is_named_by_its_column(tmp_path: Path) -> None:
    """What calls itself text, with bytes of no text."""
    buffers = pa.array([b"a", b"\xff\xfe", b"c"]).buffers()
    column = pa.Array.from_buffers(pa.string(), 3, buffers)
    path = tmp_path / "t"
    for damaged in (column, column.dictionary_encode()):
        pyarrow.parquet.write_table(pa.table({"a": [1, 2, 3], "city": damaged}), path)
        assert "column 'city' is damaged or not UTF-8" in code_of(path, "parquet")[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"null\n", "line 1 is not an object"),
        (b'{"a": 1}\n\n[1]\n', "line 3 is not an object"),
        (b'{"a": 1} null\n', "line 1 is not JSON: Extra data"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2 is not UTF-8"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "line 1 is nested too deep"),
        (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "line 1 is nested too deep"),
        (b'{"a": "' + b"x" * LONGEST_LINE + b'"}', f"line 1 has more than {LONGEST_LINE} bytes"),
        (b"\x1f\x8b\x08", "compressed: unpack it first"),
        (b"PK\x03\x04", "zip or Excel file: save the sheet as CSV"),
        (b"BZh91AY", "compressed: unpack it first"),
    ],
)
def test_a_broken_line_is_named(text: bytes, fault: str, tmp_path: Path) -> None:
    """Some of these end the process if Arrow sees them."""
    path = tmp_path / "t.ndjson"
    path.write_bytes(text)
    code, detail = code_of(path, "ndjson")
    assert code == "unreadable_file"
    assert fault in detail


def test_sizes_that_a_small_file_only_claims_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    zeros = pa.array(np.zeros(MOST_CELLS // 20 + 1, dtype=np.int8))
    pyarrow.parquet.write_table(pa.table({f"c{i}": zeros for i in range(20)}), path)
    assert path.stat().st_size < 1_000_000
    assert code_of(path, "parquet")[0] == "too_many_cells"
    for value, is_dictionary in (("x" * 100_000, True), (b"x" * 100_000, False)):
        once = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), [value])
        table = pa.table({"s": once, "x": range(20_000)})
        # Without Arrow's schema the same pages are a plain column.
        pyarrow.parquet.write_table(table, path, store_schema=is_dictionary)
        assert pa.types.is_dictionary(pyarrow.parquet.read_schema(path).types[0]) is is_dictionary
        assert path.stat().st_size < 1_000_000
        assert code_of(path, "parquet")[0] == "too_many_bytes"
    deep = pa.array([[0] * 1_000_000], pa.list_(pa.int64()))
    pyarrow.parquet.write_table(pa.table({"deep": deep, "x": [1]}), path)
    assert read_table(path, "parquet").nbytes < 1000
    names = [f"c{i}" for i in range(MOST_COLUMNS + 1)]
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names))
    assert code_of(path, "csv")[0] == "too_many_columns"
    for line in ('{{"{}": 1}}\n', '{{"a": [{{"{}": 1}}]}}\n'):
        path.write_text("".join(line.format(name) for name in names))
        assert code_of(path, "ndjson")[0] == "too_many_columns"
    path.write_text("," * 1_000_000 + "\n1")
    assert code_of(path, "csv")[0] == "too_many_columns"
    path.write_text("a" * 3_000_000)
    assert "the header has more than" in code_of(path, "csv")[1]


@pytest.mark.parametrize("name", ["a\0b", "\x1b[31m", "x" * 201])
def test_names_that_nothing_can_show_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    pyarrow.parquet.write_table(pa.table({"a": [1], name: [2]}), path)
    code, detail = code_of(path, "parquet")
    assert code == "bad_column_name"
    assert "the name of column 2" in detail
    assert detail.isprintable()


def test_damaged_parquet_is_refused_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t"
    columns = {"x": [1.5, 2.5, None], "s": pa.array(["a", "b", "a"]).dictionary_encode()}
    pyarrow.parquet.write_table(pa.table(columns), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for at in rng.integers(len(whole), size=3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            profile(read_table(path, "parquet"))
    path.write_bytes(b"PAR1PAR1PAR1")
    assert str(tmp_path) not in code_of(path, "parquet")[1]


def test_long_rows_are_read(tmp_path: Path) -> None:
    text = "x" * 5_000_000
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n1,{text}\n2,{text}\n")
    assert read_table(path, "csv").num_rows == 2
    path.write_text(f'{{"a": "{text}"}}\n{{"a": "{text}"}}\n')
    assert read_table(path, "ndjson").num_rows == 2


def test_columns_that_are_texts_stay_texts(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "zip,at\n007,12:00\n012,\n"), "csv", ["zip", "at", "more"])
    assert table.to_pylist() == [{"zip": "007", "at": "12:00"}, {"zip": "012", "at": None}]


def test_parquet_names_that_stand_twice_or_hold_dots(tmp_path: Path) -> None:
    path = tmp_path / "t"
    twice = pa.table([pa.array([1]), pa.array(["a"])], names=["a", "a"])
    pyarrow.parquet.write_table(twice, path)
    assert code_of(path, "parquet")[0] == "duplicate_column"
    nested = pa.array([{"b": "x"}])
    table = pa.table({"a.b": ["y"], "a": nested, "c.d.": ["z"], "only": nested})
    pyarrow.parquet.write_table(table, path)
    row = {"a.b": "y", "a": None, "c.d.": "z", "only": None}
    assert read_table(path, "parquet").to_pylist() == [row]
    pyarrow.parquet.write_table(pa.table({"only": nested}), path)
    assert read_table(path, "parquet").num_rows == 1
