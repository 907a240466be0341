"""The file in a multipart body, read as it arrives: nothing of it is kept, in memory or on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import InvalidError, MalformedError

MOST_PARTS = 20


class MultipartFile:
    """The bytes of the part whose field has that name; `file_name` and `media_type` are what the
    part says of itself, known once its bytes have been read."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes], field: str) -> None:
        self.file_name = ""
        self.media_type = ""
        self._body = body
        self._field = field
        self._found: list[bytes] = []
        self._has_been = self._is_here = False
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts = 0
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise MalformedError("the Content-Type of a multipart body has to name its boundary")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_end": self._end,
            },
        )
        self._has_ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The file's bytes.

        Raises:
            MalformedError: the body is no multipart body, or not all of one.
            InvalidError: it has no such part, or several.
        """
        async for chunk in self._body:
            try:
                self._parser.write(chunk)
            except MultipartParseError as error:
                raise MalformedError(f"the body is not multipart: {error}") from None
            while self._found:
                yield self._found.pop(0)
        if not self._has_ended:
            raise MalformedError("the multipart body ends before its last boundary")
        if not self._has_been:
            message = f'multipart needs a file in the field "{self._field}"'
            raise InvalidError(message, errors=[{"loc": [self._field], "msg": message}])

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidError(f"multipart with more than {MOST_PARTS} parts")
        self._headers, self._name, self._value = {}, b"", b""
        self._is_here = False

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._is_here = options.get(b"name") == self._field.encode() and b"filename" in options
        if not self._is_here:
            return
        if self._has_been:
            message = f'multipart has two files in the field "{self._field}"'
            raise InvalidError(message, errors=[{"loc": [self._field], "msg": message}])
        self._has_been = True
        self.file_name = options[b"filename"].decode(errors="replace")
        self.media_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_here:
            self._found.append(data[start:end])

    def _end(self) -> None:
        self._has_ended = True
