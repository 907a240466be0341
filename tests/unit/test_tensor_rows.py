"""Tensors of the Open Inference Protocol -> what the network reads: names, categories, missing."""

import struct

import numpy as np
import pytest

from models.errors import EncodeError
from models.features import CategoryFeature, NumberFeature
from models.table import Schema, Target
from service.errors import InvalidError
from service.open_inference.rows import TensorRows
from service.open_inference.tensors import Tensor

NUMBER = NumberFeature("input", mean=10.0, std=2.0, minimum=0.0, maximum=20.0)
HOLES = NumberFeature("holes", mean=0.0, std=1.0, minimum=-1.0, maximum=1.0, fill=0.5)
SITE = CategoryFeature("site", ("north", "south"), rare=("east",), has_missing=True)
FLAG = CategoryFeature("flag", ("false", "true"))
TARGET = Target("y")


def encode(schema: Schema, *tensors: Tensor) -> np.ndarray:
    rows = TensorRows(tensors)
    encoded = rows.encode(schema)
    assert rows.count(schema) == len(encoded.inputs)
    return encoded.inputs


def made(name: str, datatype: str, shape: tuple[int, ...], content: object) -> Tensor:
    content = memoryview(content) if isinstance(content, bytes) else content
    return Tensor(0, name, datatype, shape, content)


def test_a_feature_may_be_called_input() -> None:
    """Alone it is the table and the feature at once; among others, one column or the whole."""
    alone = Schema((NUMBER,), TARGET)
    column = made("input", "FP32", (2, 1), [12.0, 8.0])
    np.testing.assert_array_equal(encode(alone, column), [[1.0], [-1.0]])
    np.testing.assert_array_equal(
        encode(alone, made("input", "FP32", (2,), [12.0, 8.0])), [[1.0], [-1.0]]
    )
    both = Schema((NUMBER, HOLES), TARGET)
    expected = [[1.0, 0.25, 0.0], [-1.0, 0.5, 1.0]]
    table = made("input", "FP64", (2, 2), [12.0, 0.25, 8.0, None])
    np.testing.assert_array_equal(encode(both, table), expected)
    holes = made("holes", "FP32", (2,), [0.25, None])
    np.testing.assert_array_equal(encode(both, column, holes), expected)
    np.testing.assert_array_equal(encode(both, holes, column), expected)
    np.testing.assert_array_equal(
        encode(both, made("input", "FP32", (2,), [12.0, 8.0])), [[1.0, 0.5, 1.0], [-1.0, 0.5, 1.0]]
    )


def test_categories_from_every_type() -> None:
    """Inputs: north, south, the rare one (which the unseen share), missing."""
    schema = Schema((SITE,), TARGET)
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    texts = ["north", "east", "unseen", ""]
    packed = b"".join(struct.pack("<I", len(text)) + text.encode() for text in texts)
    for content in (texts, [*texts[:3], None], packed):
        np.testing.assert_array_equal(
            encode(schema, made("site", "BYTES", (4,), content)), expected
        )
    # In the table: positions in the card's order, which is sorted: east, north, south.
    table = made("input", "FP32", (4, 1), [1.0, 0.0, 2.0, None])
    by_position = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(encode(schema, table), by_position)


def test_truths_are_categories() -> None:
    schema = Schema((FLAG,), TARGET)
    expected = [[0, 1], [1, 0]]
    for tensor in (
        made("flag", "BOOL", (2,), b"\1\0"),
        made("flag", "BOOL", (2, 1), [True, False]),
        made("flag", "BYTES", (2,), ["True", "false"]),
        made("input", "UINT8", (2, 1), b"\1\0"),
    ):
        np.testing.assert_array_equal(encode(schema, tensor), expected)
    with pytest.raises(EncodeError, match="row 1, flag: is missing"):
        encode(schema, made("flag", "BOOL", (2,), [True, None]))


def test_whole_numbers_are_categories_by_their_digits() -> None:
    """Exact, also where a float would not be."""
    schema = Schema((CategoryFeature("code", ("9007199254740993", "-7")),), TARGET)
    content = struct.pack("<2q", 2**53 + 1, -7)
    for given in (content, [2**53 + 1, -7]):
        got = encode(schema, made("code", "INT64", (2,), given))
        np.testing.assert_array_equal(got, np.eye(2))
    with pytest.raises(InvalidError, match="not FP32"):
        encode(schema, made("code", "FP32", (2,), [1.0, 2.0]))


def test_the_table_gives_what_records_give() -> None:
    schema = Schema((NUMBER, HOLES, SITE, FLAG), TARGET, {"row_id": "an identifier"})
    records = [[3.5, None, "south", True], [19.0, -0.5, None, False], [7.25, 3.0, "east", False]]
    codes = {"east": 0.0, "north": 1.0, "south": 2.0, None: None}
    cells = [[a, b, codes[site], float(flag)] for a, b, site, flag in records]
    expected = schema.encode(records)
    rows = TensorRows([made("input", "FP64", (3, 4), cells)]).encode(schema)
    np.testing.assert_array_equal(rows.inputs, expected.inputs)
    assert rows.flags == expected.flags
    numbers = np.array([[np.nan if cell is None else cell for cell in row] for row in cells])
    raw = TensorRows(memoryview(numbers.astype("<f4").tobytes())).encode(schema)
    np.testing.assert_array_equal(raw.inputs, expected.inputs)
