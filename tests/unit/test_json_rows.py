"""Rows of numbers that compiled code reads from JSON, against a reader of all JSON."""

import random
import struct

import numpy as np
import pytest
from pydantic_core import from_json

from models import kernel

pytestmark = pytest.mark.skipif(
    not kernel.is_available(), reason="no compiled kernel: there was no C compiler at install"
)

ROWS = b'{"instances": [[1, 2.5e-3], [ -0.25 ,4]]}'
# Around zero, around what 53 and 64 bits hold, half way between two doubles, and a longer one.
SPECIAL = (
    "0", "-0", "0.0", "-0.0", "-0e5", "0.000", "1E5", "1e+5", "1e-5", "9007199254740993",
    "9007199254740993.0", "-9007199254740995", "9223372036854775809", "18446744073709551615",
    "9999999999999999999", "123456789012345678901234", "1.00000000000000011102230246251565404",
    "5e-324", "2.2250738585072011e-308", "1.7976931348623157e308", "1" + 250 * "0",
    "0." + 22 * "0" + "1234567890123456789", "0." + 22 * "0",
)  # fmt: skip


def texts(n: int) -> list[str]:
    """Numbers of every length and size, a quarter of them half way between two doubles."""
    draw = random.Random(0)
    found = []
    for _ in range(n // 4):
        size = draw.randrange(-40, 40)
        (any_double,) = struct.unpack("d", draw.randbytes(8))
        found += [
            f"{draw.gauss(0, 1):.{draw.randrange(1, 25)}f}",
            f"{draw.gauss(0, 10.0**size):.{draw.randrange(25)}e}",
            f"{2 * draw.randrange(2**52, 2**53) + 1}{draw.choice(['', 'e2', 'e-3', '.0'])}",
            repr(any_double if abs(any_double) < np.inf else 0.1),
        ]
    return found


def test_numbers_are_those_of_other_readers() -> None:
    found = [*SPECIAL, *texts(20_000)]
    for text in found:
        body = f'{{"instances":[[{text}]]}}'.encode()
        numbers = kernel.read_rows(body)
        assert numbers is not None, text
        assert numbers.tobytes() == struct.pack("d", from_json(body)["instances"][0][0]), text
    body = f'{{"instances":[{",".join(f"[1,{text},-1]" for text in found)}]}}'.encode()
    np.testing.assert_array_equal(
        kernel.read_rows(body), np.array(from_json(body)["instances"], dtype=np.float64)
    )


def test_space_may_stand_where_json_has_it() -> None:
    for body in (
        b' \n{\t"instances"\r:\n[ [ 1 , 2 ]\n,\t[3,4] ] } \n',
        b'{"instances":[[1,2],[3,4]]}',
    ):
        np.testing.assert_array_equal(kernel.read_rows(body), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"instances":[]}', b'{"instances":[[]]}',
        b'{"instances":[1]}', b'{"instances":[[1],[]]}', b'{"instances":[[1],[2,3]]}',
        b'{"instances":[[1],]}', b'{"instances":[[1,]]}', b'{"instances":[[1]],}',
        b'{"instances":[[1]]', b'{"instances":[[1]]}}', b'{"instances":[[1]]}\0',
        b'{"instances":[[1\0]]}', b'{"instances":[[null]]}', b'{"instances":[["1"]]}',
        b'{"instances":[[true]]}', b'{"instances":[[[1]]]}', b'{"instances":[{"a":1}]}',
        b'{"instances":[[1]],"row_ids":["a"]}', b'{"Instances":[[1]]}', b'\xef\xbb\xbf' + ROWS,
        b'{"instances":[[NaN]]}', b'{"instances":[[-Infinity]]}', b'{"instances":[[1e309]]}',
        b'{"instances":[[01]]}', b'{"instances":[[+1]]}', b'{"instances":[[.5]]}',
        b'{"instances":[[1.]]}', b'{"instances":[[-]]}', b'{"instances":[[1e]]}',
        b'{"instances":[[1e+]]}', b'{"instances":[[1 2]]}', b'{"instances":[[0x1]]}',
        b'{"instances":[[00.5]]}', b'{"instances":[[' + 400 * b"1" + b"]]}",
    ],
)  # fmt: skip
def test_anything_else_is_left_to_other_readers(body: bytes) -> None:
    assert kernel.read_rows(body) is None


def test_what_it_reads_of_damaged_texts_is_what_they_say() -> None:
    draw = random.Random(0)
    read = 0
    for _ in range(20_000):
        body = bytearray(ROWS)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(body))
            body[at : at + draw.randrange(2)] = draw.choice(b'0129.eE+-,[]{}": \n\0x').to_bytes()
        numbers = kernel.read_rows(bytes(body))
        if numbers is not None:
            read += 1
            said = from_json(bytes(body))
            assert list(said) == ["instances"]
            np.testing.assert_array_equal(numbers, np.array(said["instances"], dtype=np.float64))
    assert read > 500
