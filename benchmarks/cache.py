"""Finished pieces of a benchmark, kept so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console


class Cache:
    """One JSON line for each piece, in `folder/name.jsonl`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._known = {line["piece"]: line["result"] for line in map(json.loads, lines)}

    def get(
        self, piece: Mapping[str, Any], compute: Callable[[], dict[str, Any]], console: Console
    ) -> dict[str, Any]:
        """The result for a piece, computed if it is not known; says what is being done."""
        key = json.dumps(piece, sort_keys=True)
        if key not in self._known:
            label = ", ".join(f"{name} {value}" for name, value in piece.items())
            started = time.perf_counter()
            with console.status(label):
                result = compute()
            console.print(f"{label}: {time.perf_counter() - started:.0f} s")
            self._known[key] = result
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"piece": key, "result": result}) + "\n")
        result: dict[str, Any] = self._known[key]
        return result
