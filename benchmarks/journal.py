"""What a long benchmark has finished, as JSON lines: an interrupted one goes on from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Journal:
    """A folder for the files of a benchmark, and in it the list of finished pieces."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "results.jsonl"

    def read(self, run: str, kind: str) -> list[dict[str, Any]]:
        """The finished pieces of this run and kind, oldest first."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        pieces = [json.loads(line) for line in lines]
        return [piece for piece in pieces if (piece["run"], piece["kind"]) == (run, kind)]

    def write(self, run: str, kind: str, **piece: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps({"run": run, "kind": kind, **piece}) + "\n")
