"""A target is met on its own side only, and the table says so."""

import io
import math

import pytest
from rich.console import Console

from benchmarks.verdict import Row, print_rows


@pytest.mark.parametrize(
    ("measured", "at_most", "met"),
    [(1.2, True, True), (1.3, True, True), (1.4, True, False), (1.4, False, True),
     (1.3, False, True), (1.2, False, False), (math.nan, True, False), (math.nan, False, False)],
)  # fmt: skip
def test_a_target_is_met_on_its_own_side(measured: float, at_most: bool, met: bool) -> None:
    assert Row("x", measured, 1.3, at_most).met is met


def test_the_table_says_target_and_verdict() -> None:
    out = io.StringIO()
    rows = [Row("epoch", 3.456, 3, at_most=False), Row("peak", 412, 300, True, "MB", "two blocks")]
    print_rows(rows, "Results", Console(file=out, width=120))
    lines = [line.split() for line in out.getvalue().splitlines() if "│" in line]
    assert [word for word in lines[0] if word != "│"] == [
        "epoch",
        "3.46",
        "×",
        "≥",
        "3",
        "×",
        "met",
    ]
    assert [word for word in lines[1] if word != "│"] == (
        ["peak", "412", "MB", "≤", "300", "MB", "missed", "two", "blocks"]
    )
