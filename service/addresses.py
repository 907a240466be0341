"""Addresses as the environment gives them, and what they mean."""

from __future__ import annotations

import ipaddress

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
