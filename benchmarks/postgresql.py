"""A PostgreSQL of our own, from the package `pgserver`, that can be stopped and started again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class PostgreSQL:
    """A server with its data in that folder."""

    def __init__(self, folder: Path) -> None:
        import pgserver  # noqa: PLC0415 - only who asks for one needs the package

        self._folder = folder
        self._server = pgserver.get_server(folder, cleanup_mode="delete")
        self._control = pgserver.pg_ctl
        self.url: str = self._server.get_uri()

    def stop(self) -> None:
        """At once, connections or not."""
        arguments = ["-w", "-m", "immediate", "stop"]
        self._control(arguments, pgdata=self._folder, user=self._server.system_user)

    def start(self) -> None:
        """Again, at the same address, with what was committed."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[PostgreSQL]:
    """A server for so long."""
    server = PostgreSQL(folder)
    try:
        yield server
    finally:
        server.close()
