"""A measured figure beside its target, and the table that says which targets are met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan

from rich.console import Console
from rich.markup import escape
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

    @property
    def bound(self) -> str:
        """The target in words."""
        return f"{'≤' if self.at_most else '≥'} {self.target:g} {self.unit}"

    @property
    def figure(self) -> str:
        """The measured value in words."""
        return "–" if isnan(self.measured) else f"{self.measured:.3g} {self.unit}"

    @property
    def verdict(self) -> str:
        """The same in a word."""
        if isnan(self.measured):
            return "not measured"
        return "met" if self.met else "missed"


COLOURS = {"met": "green", "missed": "red", "not measured": "yellow"}


def print_rows(rows: Iterable[Row], title: str, console: Console | None = None) -> None:
    """Prints the rows, each with its verdict."""
    table = Table("what", "measured", "target", "verdict", "note", title=title)
    for row in rows:
        verdict = f"[{COLOURS[row.verdict]}]{row.verdict}[/]"
        table.add_row(escape(row.what), row.figure, row.bound, verdict, escape(row.note))
    (console or Console(width=120)).print(table)
