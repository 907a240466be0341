"""Compressed bodies: which encoding an answer gets, and what unpacks to what."""

import gzip
import zlib

import pytest

from service.encodings import choose_encoding, compress, inflate
from service.errors import MalformedError, TooLargeError


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("deflate, gzip", "gzip"),
        ("GZIP;Q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0, *", "deflate"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("br, identity", None),
        ("gzip;q=nonsense", None),
        (",,;=", None),
    ],
)
def test_the_encoding_that_is_preferred(accepted: str, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen


def test_what_is_compressed_is_what_the_standard_library_reads() -> None:
    body = b"0123456789" * 1000
    assert gzip.decompress(compress(body, "gzip")) == body
    assert zlib.decompress(compress(body, "deflate")) == body
    for encoding in ("gzip", "deflate"):
        assert len(compress(body, encoding)) < 200
        assert inflate(compress(body, encoding), encoding, len(body)) == body
        with pytest.raises(TooLargeError, match="9999 bytes"):
            inflate(compress(body, encoding), encoding, len(body) - 1)
        with pytest.raises(MalformedError, match="one whole"):
            inflate(compress(body, encoding) * 2, encoding, 10**6)
