"""Models, versions, aliases: what exists, what is live, and how a version becomes part of it."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.cards import brief_cards
from service.database import Database, now, take_turn
from service.errors import ConflictError, NotFoundError, StorageError
from service.model_names import NAME, artifact_name, check_name, listed, no_such_model
from service.storage import open_storage
from service.tables import Alias, Model, Version

PRODUCTION = "production"


@dataclass(frozen=True)
class Entry:
    """A model as it stands: its versions, and where its aliases point."""

    name: str
    versions: Mapping[int, str]  # number to the artifact's checksum
    aliases: Mapping[str, int]


class Registry:
    """Versions are immutable and their numbers never reused; an alias moves in one transaction."""

    def __init__(self, database: Database, home: Path, storage_url: str | None = None) -> None:
        self._database = database
        self._storage = open_storage(home, storage_url)

    def artifact_folder(self, model: str, version: int, sha256: str) -> Path:
        """Where that artifact can be read on this machine; it may have to come here first."""
        return self._storage.path(artifact_name(model, version, sha256))

    def find_artifact(self, model: str, alias: str) -> tuple[int, Path] | None:
        """The version that an alias stands for and its folder, if it stands for one."""
        with self._database.read() as session:
            query = sa.select(Version).join(
                Alias, (Alias.model == Version.model) & (Alias.version == Version.version)
            )
            found = session.scalar(query.where(Alias.model == model, Alias.alias == alias))
        if found is None:
            return None
        return found.version, self.artifact_folder(model, found.version, found.artifact_sha256)

    def snapshot(self) -> dict[str, Entry]:
        """All models that have a version, as one moment saw them."""
        with self._database.read() as session:
            versions: dict[str, dict[int, str]] = {}
            columns = sa.select(Version.model, Version.version, Version.artifact_sha256)
            for model, version, sha256 in session.execute(columns):
                versions.setdefault(model, {})[version] = sha256
            aliases: dict[str, dict[str, int]] = {}
            for alias in session.scalars(sa.select(Alias)):
                aliases.setdefault(alias.model, {})[alias.alias] = alias.version
        return {
            name: Entry(name, numbers, aliases.get(name, {})) for name, numbers in versions.items()
        }

    def list_models(self, after: str | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """A page of models, newest first, and whether there are more."""
        with self._database.read() as session:
            query = sa.select(Model).order_by(Model.created_at.desc(), Model.name)
            query = query.where(sa.exists().where(Version.model == Model.name))
            models = list(session.scalars(query))
            if after is not None:
                names = [model.name for model in models]
                if after not in names:
                    raise NotFoundError(f"there is no model {after!r} to list from")
                models = models[names.index(after) + 1 :]
            page = [self._describe(session, model) for model in models[:limit]]
        return page, len(models) > limit

    def no_model(self, model: str) -> NotFoundError:
        """The error that says there is no such model: what is near, or on its way."""
        with self._database.read() as session:
            return no_such_model(session, model)

    def describe(self, model: str) -> dict[str, Any]:
        """A model with its aliases and the cards of its versions, newest first.

        Raises:
            NotFoundError: no version of it exists.
        """
        with self._database.read() as session:
            found = session.get(Model, model)
            described = self._describe(session, found) if found else None
            if not described or not described["versions"]:
                raise no_such_model(session, model)
        return described

    def card(self, model: str, version: str) -> dict[str, Any]:
        """A version's card.

        Raises:
            NotFoundError: it does not exist.
        """
        with self._database.read() as session:
            return dict(self._version(session, model, version).card)

    def write_zip(self, model: str, version: str, file: IO[bytes]) -> None:
        """Writes a version's artifact into that file, as one zip.

        Raises:
            NotFoundError: it does not exist.
        """
        with self._database.read() as session:
            found = self._version(session, model, version)
        folder = self.artifact_folder(model, found.version, found.artifact_sha256)
        if not folder.exists():
            # Deleted since that look, or lost.
            self.card(model, version)
            raise StorageError("the artifact is not in the store", 30)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for part in sorted(folder.iterdir()):
                # A fixed date: the same artifact gives the same bytes.
                info = zipfile.ZipInfo(part.name, date_time=(1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o644 << 16
                with part.open("rb") as source, archive.open(info, "w") as entry:
                    shutil.copyfileobj(source, entry)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Points the alias to that version, from the next request on.

        Raises:
            NotFoundError: no such model or version, or a name that cannot be an alias.
        """
        if not NAME.fullmatch(alias):
            raise NotFoundError(
                f"{alias!r} cannot be an alias: use letters, digits, dot, dash, underscore"
            )
        with self._database.write() as session:
            _take_turn(session, model)
            self._version(session, model, str(version))
            _point(session, model, alias, version)

    def delete_version(self, model: str, version: str) -> None:
        """Removes a version and its artifact; its number stays used.

        Raises:
            NotFoundError: it does not exist.
            ConflictError: an alias points to it.
        """
        with self._database.write() as session:
            _take_turn(session, model)
            found = self._version(session, model, version)
            query = sa.select(Alias.alias).where(
                Alias.model == model, Alias.version == found.version
            )
            aliases = list(session.scalars(query))
            if aliases:
                raise ConflictError(
                    f"{model} {version} is what {', '.join(sorted(aliases))} points to: move the "
                    "alias first"
                )
            session.delete(found)
        # Who answers with it holds it in memory.
        self._storage.remove(artifact_name(model, found.version, found.artifact_sha256))

    def discard_version(self, model: str, version: int) -> bool:
        """Removes a version if no alias means it; whether it did."""
        try:
            self.delete_version(model, str(version))
        except (ConflictError, NotFoundError):
            return False
        return True

    def reserve_version(self, session: Session, model: str) -> int:
        """A number for a new version, given away once."""
        _take_turn(session, model)
        found = session.get(Model, model)
        if found is None:
            found = Model(name=model, last_version=0, created_at=now())
            session.add(found)
        found.last_version += 1
        session.flush()
        return found.last_version

    def production(self, session: Session, model: str) -> int | None:
        """The version in production, which stays there until the caller's transaction ends."""
        _take_turn(session, model)
        found = session.get(Alias, (model, PRODUCTION))
        return found.version if found else None

    def place_artifact(self, staged: Path, model: str, version: int, sha256: str) -> None:
        """Moves a whole artifact to its place; done already, it is left as it is."""
        name = artifact_name(model, version, sha256)
        # Gone from where it was staged, it was placed by a run that was interrupted then.
        if staged.exists():
            self._storage.put(staged, name)

    def add_version(
        self, session: Session, model: str, version: int, card: Mapping[str, Any], *, promote: bool
    ) -> None:
        """Makes a placed artifact a version, and production if so wished, in the caller's
        transaction."""
        _take_turn(session, model)
        if session.get(Version, (model, version)) is None:
            full = {"model": model, "version": version, **card}
            session.add(
                Version(
                    model=model,
                    version=version,
                    artifact_sha256=card["artifact_sha256"],
                    card=full,
                    created_at=now(),
                )
            )
            session.flush()
        if promote:
            _point(session, model, PRODUCTION, version)

    def scratch(self) -> Path:
        """A path for an artifact on its way here."""
        return self._storage.scratch()

    def add_artifact(
        self, staged: Path, model: str, card: Mapping[str, Any], *, promote: str
    ) -> dict[str, Any]:
        """Makes the artifact in that folder, whose card this is, a new version, and production if
        `promote` is "always", or "if_first" and there is none; gives its full card.

        Raises:
            InvalidError: a name that no model can have.
        """
        check_name(model)
        with self._database.write() as session:
            version = self.reserve_version(session, model)
        self.place_artifact(staged, model, version, card["artifact_sha256"])
        with self._database.write() as session:
            is_first = self.production(session, model) is None
            is_promoted = promote == "always" or (promote == "if_first" and is_first)
            self.add_version(session, model, version, card, promote=is_promoted)
        return self.card(model, str(version))

    def delete_alias(self, model: str, alias: str) -> None:
        """Removes an alias; the version stays.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.write() as session:
            _take_turn(session, model)
            found = session.get(Alias, (model, alias))
            if found is None:
                raise NotFoundError(f"{model[:64]!r} has no alias {alias[:64]!r}")
            session.delete(found)

    def _describe(self, session: Session, model: Model) -> dict[str, Any]:
        versions = brief_cards(session, model.name)
        aliases = session.scalars(sa.select(Alias).where(Alias.model == model.name))
        return {
            "model": model.name,
            "task": versions[0]["task"] if versions else None,
            "created_at": model.created_at,
            "aliases": {alias.alias: alias.version for alias in aliases},
            "versions": versions,
        }

    def _version(self, session: Session, model: str, version: str) -> Version:
        number = (
            int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
        )
        found = session.get(Version, (model, number))
        if found is not None:
            return found
        query = sa.select(Version.version).where(Version.model == model)
        numbers = sorted(session.scalars(query))
        if not numbers:
            raise no_such_model(session, model)
        raise NotFoundError(f"{model} has no version {version!r} (it has {listed(numbers)})")


def _take_turn(session: Session, model: str) -> None:
    take_turn(session, f"model {model}")


def _point(session: Session, model: str, alias: str, version: int) -> None:
    found = session.get(Alias, (model, alias))
    if found is None:
        session.add(Alias(model=model, alias=alias, version=version, updated_at=now()))
    else:
        found.version, found.updated_at = version, now()
