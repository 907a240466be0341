"""`dropcast models`: what there is."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from service.commands.console import say
from service.database import Database
from service.registry import Registry
from service.settings import Settings


def list_models(settings: Settings) -> None:
    """A table of models."""
    database = Database(settings.database)
    database.migrate()
    found, _ = Registry(database, settings.home, settings.storage).list_models(None, 1000)
    table = Table("model", "task", "target", "versions", "aliases", "held-out score")
    for model in found:
        newest = model["versions"][0]
        aliases = ", ".join(f"{name} → {number}" for name, number in model["aliases"].items())
        numbers = ", ".join(str(card["version"]) for card in model["versions"])
        table.add_row(
            model["model"], model["task"], newest["target"], numbers, aliases, _score(newest)
        )
    if found:
        Console(markup=False).print(table)
        return
    message = f"there are no models yet in {settings.home}: dropcast train FILE --target COLUMN"
    say(Console(), message)


def _score(card: dict[str, Any]) -> str:
    # An artifact from elsewhere may come without.
    metrics = card["metrics"].get("mc_mode", {})
    shown = [name for name in ("accuracy", "rmse") if isinstance(metrics.get(name), float)]
    return f"{shown[0]} {metrics[shown[0]]:.4g}" if shown else ""
