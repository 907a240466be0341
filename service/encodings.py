"""Compressed bodies (`Content-Encoding`), both ways, within the limits that plain ones have."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping

from service.errors import MalformedError, TooLargeError, UnsupportedEncodingError

# As `zlib` calls them: a gzip header, a zlib header. "deflate" means the latter (RFC 9110).
_WINDOWS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, 1, mtime=0),
    "deflate": lambda body: zlib.compress(body, 1),
}
# Below that many bytes compression saves no packet.
LEAST_COMPRESSED = 1024


def is_plain(encoding: str) -> bool:
    """Whether a body of that `Content-Encoding` is as it was sent."""
    return encoding.strip().lower() in ("", "identity")


def inflate(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body as it was before it was compressed.

    Raises:
        UnsupportedEncodingError: it was compressed otherwise than by gzip or deflate.
        MalformedError: it is damaged.
        TooLargeError: it has more bytes than that; no more are unpacked to find out.
    """
    name = encoding.strip().lower()
    if name not in _WINDOWS:
        raise UnsupportedEncodingError(encoding)
    stream = zlib.decompressobj(_WINDOWS[name])
    try:
        plain = stream.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise MalformedError(f"the body is not {name}: {error}") from None
    if len(plain) > most_bytes:
        raise TooLargeError(f"the body unpacks to more than the {most_bytes} bytes allowed")
    if not stream.eof or stream.unused_data:
        raise MalformedError(f"the body is not one whole {name} stream")
    return plain


def choose_encoding(accepted: str) -> str | None:
    """The encoding of an answer for that `Accept-Encoding`, None for plain: the one of ours that
    is preferred, gzip among equals."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        try:
            weights[name.strip()] = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            return None
    best = max(_COMPRESS, key=lambda name: weights.get(name, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0.0 else None


def compress(body: bytes, encoding: str) -> bytes:
    """The body in one of the encodings that `choose_encoding` gives."""
    return _COMPRESS[encoding](body)
