"""`dropcast predict` and `dropcast uncertainty`: a file in, answers out."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from models.errors import DropcastError, EncodeError, NonFiniteError
from service.commands.console import refuse, say
from service.computation import Instances
from service.database import Database
from service.datasets import read_rows
from service.errors import InvalidError, NotFoundError, ServiceError
from service.inference import Address, Inference
from service.registry import Entry, Registry
from service.schemas import UncertaintyRequest, parse
from service.settings import Settings

MOST_SHOWN = 20
BATCH_ROWS = 1000


def ask(
    settings: Settings,
    name: str,
    file: Path,
    version: int | None,
    options: Mapping[str, Any] | None,
    output: Path | None,
) -> int:
    """Prints or writes predictions of a file's rows, with uncertainty if there are `options`
    for it."""
    if output is not None and not os.access(output.parent, os.W_OK):
        return refuse(f"cannot write {output}: {output.parent} is no folder to write to")
    try:
        rows = asyncio.run(_answers(settings, name, file, version, options))
    except NotFoundError as error:
        return refuse(f"{error} (looked in {settings.home})")
    except (ServiceError, DropcastError) as error:
        return refuse(str(error))
    console = Console(markup=False)
    if output is not None:
        with output.open("w", newline="") as opened:
            _write_csv(opened, rows)
        say(console, f"{len(rows)} rows written to {output}")
    elif sys.stdout.isatty():
        _print_table(console, rows)
    else:
        _write_csv(sys.stdout, rows)
    return 0


async def _answers(
    settings: Settings,
    name: str,
    file: Path,
    version: int | None,
    options: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    database = Database(settings.database)
    database.migrate()
    inference = Inference(settings, OneModel(database, settings.home, name, version))
    address = Address(name, version=None if version is None else str(version))
    loaded = await inference.find(address)
    instances = read_rows(file, loaded.artifact.schema)
    rows: list[dict[str, Any]] = []
    step = min(BATCH_ROWS, settings.max_rows)
    for start in range(0, len(instances), step):
        batch = instances[start : start + step]
        try:
            if options is None:
                answer = await inference.predict(address, Instances(batch))
            else:
                request = parse(UncertaintyRequest, {"instances": batch, **options})
                answer = await inference.uncertainty(address, request)
        except EncodeError as error:
            first = error.problems[0]
            place = f"{file.name}, row {start + first.row + 1}, {first.feature}"
            raise InvalidError(f"{place}: {first.message}") from None
        except NonFiniteError as error:
            moved = NonFiniteError([start + row + 1 for row in error.rows])
            raise InvalidError(f"{file.name}: {moved}") from None
        rows += answer["predictions"]
    return rows


class OneModel(Registry):
    """A registry with that model alone, or that version of it, so that no other is loaded."""

    def __init__(self, database: Database, home: Path, name: str, version: int | None) -> None:
        super().__init__(database, home)
        self._name = name
        self._has_aliases = version is None

    def snapshot(self) -> dict[str, Entry]:
        entry = super().snapshot().get(self._name)
        if entry is None:
            return {}
        return {self._name: entry if self._has_aliases else replace(entry, aliases={})}


def _flatten(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as columns named with dots, lists as JSON texts."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        else:
            flat[prefix + key] = value
    return flat


def _write_csv(file: TextIO, rows: list[dict[str, Any]]) -> None:
    flat = [_flatten(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    writer = csv.DictWriter(file, list(names), restval="")
    writer.writeheader()
    writer.writerows(flat)


def _print_table(console: Console, rows: list[dict[str, Any]]) -> None:
    shown = [_essence(row) for row in rows[:MOST_SHOWN]]
    names = list(dict.fromkeys(name for row in shown for name in row))
    table = Table(*names)
    for row in shown:
        table.add_row(*(row.get(name, "") for name in names))
    console.print(table)
    if len(rows) > MOST_SHOWN:
        console.print(f"… {len(rows) - MOST_SHOWN} more: --output FILE writes them all")


def _essence(row: Mapping[str, Any]) -> dict[str, str]:
    """What matters most of an answer, as texts that fit into a terminal."""
    names: tuple[str, ...] = ("value", "mean", "std", "lower", "upper")
    found = {**row, **row.get("interval", {})}
    if "label" in row:
        names = ("label", "probability", "entropy", "mutual_information", "prediction_set")
        found["probability"] = row["probabilities"][row["label"]]
        if "prediction_set" in row:
            found["prediction_set"] = row["prediction_set"]["labels"]
    names += ("decision", "flags")
    return {name.replace("_", " "): _shown(found[name]) for name in names if name in found}


def _shown(value: Any) -> str:
    """Of a number four significant digits, or all before the point."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    return ", ".join(value) if isinstance(value, list) else str(value)
