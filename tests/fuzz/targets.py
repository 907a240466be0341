"""What is fuzzed: a body to encoded rows, a file to a table, a zip to an artifact."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from models import load_artifact
from models.artifact import FILES, SUMS, save_artifact
from models.errors import ArtifactError, DataError, EncodeError
from models.ingest import Format
from models.limits import Limits
from models.pieces import profile_file
from service.envelope import parse_json
from service.errors import ServiceError
from service.schemas import (
    DropoutRequest,
    PredictRequest,
    TrainingJobRequest,
    UncertaintyRequest,
    parse,
)
from tests.unit.test_artifact import make

Target = Callable[[bytes], None]

KINDS = (PredictRequest, UncertaintyRequest, DropoutRequest, TrainingJobRequest)
FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet")


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


def files() -> Target:
    """The first byte chooses the format; the rest is the file."""
    path = Path(tempfile.mkdtemp()) / "file"

    def read(data: bytes) -> None:
        path.write_bytes(data[1:])
        with contextlib.suppress(DataError):
            profile_file(path, FORMATS[data[0] % len(FORMATS)] if data else "csv", Limits())

    return read


def artifacts() -> Target:
    """The first two bytes choose what is damaged: the whole zip, or one of its files, whose
    checksum then is made to fit; the rest is what is put there, and where."""
    folder = Path(tempfile.mkdtemp())
    save_artifact(make(), folder / "whole")
    whole = {name: (folder / "whole" / name).read_bytes() for name in FILES}
    path = folder / "damaged.zip"

    def read(data: bytes) -> None:
        if len(data) < 4 or data[0] % 4 == 3:
            path.write_bytes(data[1:])
        else:
            contents = dict(whole)
            name = FILES[data[0] % 4]
            at = int.from_bytes(data[1:3], "little") % len(whole[name])
            length = data[3]
            contents[name] = whole[name][:at] + data[4:] + whole[name][at + length :]
            path.write_bytes(_zip(contents))
        with contextlib.suppress(ArtifactError):
            load_artifact(path)

    return read


def _zip(contents: dict[str, bytes]) -> bytes:
    sums = "".join(f"{hashlib.sha256(contents[n]).hexdigest()}  {n}\n" for n in FILES)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (*contents.items(), (SUMS, sums.encode())):
            archive.writestr(name, content)
    return file.getvalue()


TARGETS: dict[str, Callable[[], Target]] = {
    "requests": requests,
    "files": files,
    "artifacts": artifacts,
}
