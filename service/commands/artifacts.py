"""`dropcast export` and `dropcast import`: a version as one file, from here to there."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from rich.console import Console

from models.errors import DropcastError
from service.artifact_files import unpack
from service.commands.console import refuse, say
from service.database import Database
from service.errors import ServiceError
from service.registry import PRODUCTION, Registry
from service.settings import Settings


def export_version(settings: Settings, address: str, file: Path) -> int:
    """Writes `MODEL` (production) or `MODEL@VERSION` into that file, wholly or not at all."""
    model, _, version = address.partition("@")
    registry = _registry(settings)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
    try:
        if not version:
            aliases = registry.describe(model)["aliases"]
            if PRODUCTION not in aliases:
                return refuse(f"{model} has no production version: name one, as {model}@1")
            version = str(aliases[PRODUCTION])
        with partial.open("wb") as target:
            registry.write_zip(model, version, target)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(file)
    except (ServiceError, DropcastError) as error:
        return refuse(str(error))
    finally:
        partial.unlink(missing_ok=True)
    say(Console(), f"{model} version {version} is in {file}")
    return 0


def import_version(settings: Settings, file: Path, model: str, promote: str) -> int:
    """Makes the artifact in that file a new version of the model."""
    registry = _registry(settings)
    folder = registry.scratch()
    try:
        card = unpack(file, folder, settings.max_artifact_bytes)
        card = registry.add_artifact(folder, model, card, promote=promote)
        production = registry.describe(model)["aliases"].get(PRODUCTION)
    except (ServiceError, DropcastError) as error:
        return refuse(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    fate = f"production is version {production}" if production else "no version is in production"
    say(Console(), f"{model} version {card['version']} is here; {fate}")
    return 0


def _registry(settings: Settings) -> Registry:
    database = Database(settings.database)
    database.migrate()
    return Registry(database, settings.home, settings.storage)
