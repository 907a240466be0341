"""How a command speaks: on the terminal, or to standard error when it refuses."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def say(console: Console, text: str, **style: Any) -> None:
    """Prints a text as it is, in one line however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True, **style)


def refuse(message: str) -> int:
    """The exit code of a command that cannot do what was asked, and says why."""
    say(Console(stderr=True), message, style="red")
    return 1
