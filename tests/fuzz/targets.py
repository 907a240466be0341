"""What is fuzzed: a body to encoded rows, a file to a table, a zip to an artifact."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from models.errors import EncodeError
from service.envelope import parse_json
from service.errors import ServiceError
from service.schemas import (
    DropoutRequest,
    PredictRequest,
    TrainingJobRequest,
    UncertaintyRequest,
    parse,
)
from tests.fuzz.artifacts import artifacts
from tests.fuzz.files import files
from tests.unit.test_artifact import make

Target = Callable[[bytes], None]

KINDS = (PredictRequest, UncertaintyRequest, DropoutRequest, TrainingJobRequest)


def requests() -> Target:
    """The first byte chooses the type; the rest is the body. Rows that fit are encoded."""
    schema = make().schema

    def read(data: bytes) -> None:
        kind = KINDS[data[0] % len(KINDS)] if data else PredictRequest
        try:
            wanted = parse(kind, parse_json(data[1:]))
        except ServiceError:
            return
        with contextlib.suppress(EncodeError):
            schema.encode(getattr(wanted, "instances", None) or [])

    return read


TARGETS: dict[str, Callable[[], Target]] = {
    "requests": requests,
    "files": files,
    "artifacts": artifacts,
}
