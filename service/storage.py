"""Where datasets and artifacts lie: in a folder of this machine, or in a store of objects (S3).

What is stored has a name, is whole, and never changes. It comes into being elsewhere and moves to
its place in one step; whether anybody sees it there is for the database to say, so that what is
torn or interrupted is never part of anything, and `service.sweeping` collects it.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import StorageError

RETRY_SECONDS = 5


@dataclass(frozen=True)
class Entry:
    """Something stored, and when it was last written, in seconds since 1970."""

    name: str
    modified: float


class Storage:
    """Files and folders by name, in `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._scratch = home / "partial"

    def scratch(self) -> Path:
        """A path where nothing is, for something on its way to the store."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / uuid.uuid4().hex

    def path(self, name: str) -> Path:
        """Where it can be read on this machine; nothing is there if it is not stored."""
        return self._home / name

    def has(self, name: str) -> bool:
        """Whether it is stored."""
        return (self._home / name).exists()

    def put(self, staged: Path, name: str) -> None:
        """Moves a file or folder to its place, for good; stored already, it is left as it is."""
        place = self._home / name
        if place.exists():
            # Needed again, it is no longer old.
            os.utime(place)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            # From now on it is new to whoever looks for what nobody needs.
            os.utime(staged)
            staged.rename(place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy = self.scratch()
            _copy(staged, copy)
            copy.rename(place)
        _sync_folder(place.parent)

    def remove(self, name: str) -> None:
        """Removes it, at once for whoever looks; done already, nothing."""
        place = self._home / name
        gone = self.scratch()
        try:
            place.rename(gone)
        except FileNotFoundError:
            return
        _remove(gone)

    def entries(self, pattern: str) -> list[Entry]:
        """What is stored under names of that pattern, as `datasets/*`."""
        found = []
        for path in self._home.glob(pattern):
            try:
                found.append(Entry(str(path.relative_to(self._home)), path.stat().st_mtime))
            except FileNotFoundError:
                continue
        return found


class RemoteStorage(Storage):
    """The same in a store that `fsspec` reaches; what is read is kept in `home` for a while.

    Objects appear whole or not at all. A folder's do so one by one, and nobody asks for them
    before all are there.
    """

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home)
        # Needed for such stores only, and slow to import.
        from fsspec.core import url_to_fs  # noqa: PLC0415

        with _told():
            self._files, root = url_to_fs(url, use_listings_cache=False)
        self._root = str(root).rstrip("/")
        self._cache = home / "cache"

    def path(self, name: str) -> Path:
        cached = self._cache / name
        if cached.exists():
            os.utime(cached)
            return cached
        partial = self.scratch()
        try:
            with _told():
                parts = self._find(name)
                for part in parts:
                    rest = str(part).removeprefix(self._at(name)).lstrip("/")
                    target = partial / rest if rest else partial
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._files.get_file(part, str(target))
            if parts:
                cached.parent.mkdir(parents=True, exist_ok=True)
                if not cached.exists():
                    partial.rename(cached)
        finally:
            _remove(partial)
        return cached

    def has(self, name: str) -> bool:
        with _told():
            return bool(self._files.exists(self._at(name)))

    def put(self, staged: Path, name: str) -> None:
        with _told():
            if staged.is_dir():
                for part in sorted(staged.iterdir()):
                    self._files.put_file(str(part), f"{self._at(name)}/{part.name}")
            else:
                self._files.put_file(str(staged), self._at(name))
        _remove(staged)

    def remove(self, name: str) -> None:
        with _told():
            if self._files.exists(self._at(name)):
                self._files.rm(self._at(name), recursive=True)
        _remove(self._cache / name)

    def entries(self, pattern: str) -> list[Entry]:
        depth = pattern.count("/") + 1
        newest: dict[str, float] = {}
        with _told():
            found = self._find(pattern.partition("/")[0])
        for path, info in found.items():
            parts = str(path).removeprefix(f"{self._root}/").split("/")
            if len(parts) < depth or info.get("type") != "file":
                continue  # What a client reports of a folder that it finds empty.
            name = "/".join(parts[:depth])
            newest[name] = max(newest.get(name, 0.0), _moment(info))
        return [Entry(name, modified) for name, modified in newest.items()]

    def _find(self, name: str) -> dict[str, Any]:
        # Other processes write there, too: nothing may be remembered.
        self._files.invalidate_cache()
        return dict(self._files.find(self._at(name), detail=True))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def open_storage(home: Path, url: str | None) -> Storage:
    """The store at that address; without one, the home's.

    Raises:
        StorageError: the address is of no store that can be reached from here.
    """
    return RemoteStorage(home, url) if url else Storage(home)


@contextmanager
def _told() -> Iterator[None]:
    """Makes of whatever a store's client raises an error that says so; OSError stays."""
    try:
        yield
    except ImportError as error:
        message = f"the store needs a package that is not installed: {error.name}"
        raise StorageError(message, RETRY_SECONDS) from error
    except Exception as error:  # Each client has exceptions of its own.
        raise StorageError("the store of datasets and artifacts fails", RETRY_SECONDS) from error


def _moment(info: dict[str, Any]) -> float:
    # Of unknown age it is new.
    moment = info.get("LastModified") or info.get("mtime") or info.get("created") or time.time()
    return float(moment.timestamp() if hasattr(moment, "timestamp") else moment)


def _copy(source: Path, target: Path) -> None:
    """Copies a file or folder of files, durably."""
    if source.is_dir():
        target.mkdir()
        for part in source.iterdir():
            _copy(part, target / part.name)
        _sync_folder(target)
        return
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
