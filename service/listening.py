"""The address that the API listens on: whether it may, and its socket."""

from __future__ import annotations

import logging
import socket

from service.database import Database
from service.keys import Keys
from service.settings import Settings

log = logging.getLogger(__name__)

NO_KEYS = (
    "requests to {host} need a key, and there is none: make one with `dropcast keys create NAME`, "
    "or say with DROPCAST_KEYS=off that whoever reaches the port may do everything"
)
BACKLOG = 2048


def listen(settings: Settings) -> socket.socket | None:
    """A socket that listens where the settings say; None if it may not or cannot, as the log
    then says."""
    if settings.needs_keys and not _has_keys(settings):
        log.error("%s", NO_KEYS.format(host=settings.host))
        return None
    if not (settings.needs_keys or settings.is_on_loopback):
        log.warning("without keys: whoever reaches %s may do everything", settings.host)
    try:
        return socket.create_server((settings.host, settings.port), backlog=BACKLOG)
    except OSError as error:
        log.error("cannot listen on %s:%d: %s", settings.host, settings.port, error)
        return None


def share(host: str, port: int) -> socket.socket:
    """A socket bound to that address beside others of this user; no connection comes to it
    before it listens."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    shared = socket.socket(family, socket.SOCK_STREAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    return shared


def say_where(bound: socket.socket) -> None:
    """Tells the log the address."""
    address, port = bound.getsockname()[:2]
    log.info("Dropcast on http://%s:%d, its documentation at /docs", address, port)


def _has_keys(settings: Settings) -> bool:
    database = Database(settings.database)
    try:
        database.migrate()
        return bool(Keys(database).ring())
    finally:
        database.close()
