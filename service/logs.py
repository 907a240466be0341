"""Log lines on standard error: JSON for machines, or text for eyes, each with its request's id."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from typing import Any

import orjson

from service import context

# Whoever chooses a path, or a name, writes no lines of his own, and moves no cursor.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def configure_logging(level: str, form: str = "text") -> None:
    """One line for each entry; `form` is json, text, or auto: text at a terminal."""
    is_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(TextLines() if is_text else JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """Time, level, message; the id of the request last, where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        request = context.current()
        line = super().formatMessage(record).translate(CONTROLS)
        return line if request is None else f"{line} [{request.request_id}]"


class JsonLines(logging.Formatter):
    """An object: `time`, `level`, `logger`, `message`, `process`, and what is known of
    `request_id`, `trace_id`, `exception` and the record's own `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        request = context.current()
        if request is not None:
            entry["request_id"] = request.request_id
            if request.trace_id:
                entry["trace_id"] = request.trace_id
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str, option=orjson.OPT_UTC_Z).decode()
