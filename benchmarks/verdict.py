"""A measured figure beside its target, and the table that says which targets are met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One line of the results: what was measured, in the unit of `unit`, against its target.

    `at_most` says on which side of the target the measured value has to be.
    """

    what: str
    measured: float
    target: float
    at_most: bool
    unit: str = "×"
    note: str = ""

    @property
    def met(self) -> bool:
        """A value that is not a number meets nothing."""
        return self.measured <= self.target if self.at_most else self.measured >= self.target


def print_rows(rows: Iterable[Row], title: str, console: Console | None = None) -> None:
    """Prints the rows, each with its verdict."""
    table = Table("what", "measured", "target", "verdict", "note", title=title)
    for row in rows:
        bound = f"{'≤' if row.at_most else '≥'} {row.target:g} {row.unit}"
        verdict = "[green]met[/]" if row.met else "[red]missed[/]"
        table.add_row(row.what, f"{row.measured:.3g} {row.unit}", bound, verdict, row.note)
    (console or Console(width=120)).print(table)
