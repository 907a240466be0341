"""`dropcast keys`: make, list and revoke keys, with a service running or not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from service.access import Scope
from service.commands.console import refuse, say
from service.database import Database, now
from service.errors import NotFoundError
from service.keys import Keys
from service.settings import Settings
from service.tables import ApiKey


def create(settings: Settings, name: str, scopes: Sequence[str], days: float | None) -> int:
    """Prints a new key, alone on standard output; gives the exit code."""
    unknown = sorted(set(scopes) - set(Scope))
    if unknown or not scopes:
        return refuse(f"no scope {', '.join(unknown)}: there are {', '.join(Scope)}")
    try:
        expires_at = None if days is None else now() + dt.timedelta(days=days)
    except (OverflowError, ValueError):
        return refuse(f"{days} days lead beyond all calendars")
    with _keys(settings) as keys:
        key, text = keys.create(name, {Scope(scope) for scope in scopes}, expires_at)
    until = "" if key.expires_at is None else f", until {_day(key.expires_at)}"
    note = f"key {key.id} for {', '.join(key.scopes)}{until}; shown only now:"
    say(Console(stderr=True), note)
    say(Console(), text)
    return 0


def list_keys(settings: Settings) -> None:
    """Prints the table of keys."""
    with _keys(settings) as keys:
        found = keys.all()
    table = Table("id", "name", "scopes", "made", "state")
    for key in found:
        made = _day(key.created_at)
        table.add_row(key.id, key.name, ", ".join(key.scopes), made, _state(key))
    Console(markup=False).print(table)


def revoke(settings: Settings, key_id: str) -> int:
    """Revokes that key; gives the exit code."""
    with _keys(settings) as keys:
        try:
            key = keys.revoke(key_id)
        except NotFoundError as error:
            return refuse(f"{error}: see `dropcast keys list`")
    say(Console(), f"key {key.id} ({key.name}) is revoked")
    return 0


@contextmanager
def _keys(settings: Settings) -> Iterator[Keys]:
    database = Database(settings.database)
    try:
        database.migrate()
        yield Keys(database)
    finally:
        database.close()


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "good"
    return f"{'good until' if now() < key.expires_at else 'expired'} {_day(key.expires_at)}"


def _day(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
