"""What the texts of the environment mean, and which of them are refused."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from sqlalchemy import make_url


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sqlalchemy_url(address: str) -> str:
    """A database's address as SQLAlchemy reads it."""
    url = make_url(address)
    if url.drivername == "postgresql":
        # Texts as UTF-8 also from a server whose databases have no encoding (SQL_ASCII).
        url = url.set(drivername="postgresql+psycopg")
        url = url.update_query_dict({"client_encoding": "utf8"})
    return url.render_as_string(hide_password=False)


def known_rate(rate: str | None) -> str | None:
    """A rate that lets somebody in, or none.

    Raises:
        ValueError: it is no rate, or lets nobody in.
    """
    if not rate:
        return None
    # Slow to import, and only for those who want it.
    from limits import parse_many  # noqa: PLC0415

    if any(one.amount < 1 for one in parse_many(rate)):
        raise ValueError("lets nobody in")
    return rate


def known_database(url: str | None) -> str | None:
    """A database's address, or none.

    Raises:
        ValueError: it is of another kind.
    """
    if not url:
        return None
    if not url.startswith(("postgresql://", "sqlite:///")):
        raise ValueError("has to start with postgresql:// or sqlite:///")
    return url


def absolute(folder: Path) -> Path:
    """The folder, wherever this process goes."""
    return folder.expanduser().absolute()
