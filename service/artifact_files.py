"""Artifacts that come from elsewhere: one zip of data, looked at closely, and never code."""

from __future__ import annotations

import json
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from pydantic import ValidationError

from models.artifact import FILES, MEANINGLESS, SUMS, load_artifact
from models.errors import DropcastError
from models.sampling import make_plan, predict
from service.errors import InvalidError, TooLargeError
from service.schemas import Card

MANIFEST_BYTES = 2**24
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CHUNK_BYTES = 2**20


def unpack(file: Path, folder: Path, most_bytes: int) -> dict[str, Any]:
    """Makes that folder of the zip, if it is a whole artifact that can be served, and gives its
    card, without the model's name and version.

    Raises:
        InvalidError: it is no artifact, or one that says what is not so.
        TooLargeError: it would unpack to more bytes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _extract(archive, folder, most_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise InvalidError(f"the artifact is not a readable zip file: {error}") from None
    try:
        artifact = load_artifact(folder)
        # What the weights are for can only be seen by using them.
        plan = make_plan(artifact.network)
        outputs = predict(plan, torch.zeros(1, plan.config.in_features))
        artifact.decode(outputs[:, : plan.config.out_features])
        card = artifact.card() | {"artifact_sha256": artifact.sha256}
    except (DropcastError, *MEANINGLESS) as error:
        reason = str(error).replace(str(folder), "the file")
        raise InvalidError(f"the artifact cannot be served: {reason[:500]}") from None
    _check_card(card)
    return card


def _extract(archive: zipfile.ZipFile, folder: Path, most_bytes: int) -> None:
    entries = archive.infolist()
    expected = (*FILES, SUMS)
    if sorted(entry.filename for entry in entries) != sorted(expected):
        found = ", ".join(repr(entry.filename[:80]) for entry in entries[:10])
        raise InvalidError(f"the artifact holds {found or 'nothing'}, and {expected} are due")
    room = most_bytes
    folder.mkdir(parents=True)
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise InvalidError(f"{entry.filename} in the artifact is no plain file")
        if entry.compress_type not in METHODS:
            raise InvalidError(f"{entry.filename} in the artifact is packed in an unusual way")
        most = min(room, MANIFEST_BYTES) if entry.filename == "manifest.json" else room
        with archive.open(entry) as source, (folder / entry.filename).open("wb") as target:
            size = 0
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                if size > most:
                    raise TooLargeError(f"{entry.filename} has more than the {most} bytes allowed")
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        room -= size


def _check_card(card: Mapping[str, Any]) -> None:
    """Whether everybody can be shown the card: a manifest may hold any JSON."""
    try:
        Card.model_validate({"model": "", "version": 0, **card})
        text = json.dumps(card, allow_nan=False)
        orjson.dumps(card)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise InvalidError(f"the artifact's manifest is wrong about {place}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"the artifact's manifest holds what no answer can: {error}") from None
    if "\\u0000" in text:
        raise InvalidError("the artifact's manifest holds a NUL")
