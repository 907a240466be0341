"""Uploads: checked, profiled, and stored under the checksum of their bytes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

import sqlalchemy as sa
from anyio import to_thread
from sqlalchemy.orm import Session

from models.features import CategoryFeature
from models.ingest import Format, read_table
from models.limits import Limits
from models.pieces import profile_file
from models.schema_inference import records
from models.table import Schema
from models.tally import ColumnProfile
from service.database import Database, now, take_turn
from service.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    StorageError,
    TooSlowError,
)
from service.settings import Settings
from service.storage import open_storage
from service.tables import Dataset, Job
from service.wording import listed, near

MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
}
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}


def format_of(media_type: str, file_name: str, first_bytes: bytes) -> Format:
    """The format by the declared media type, else by the name, else by what the bytes are."""
    declared = MEDIA_TYPES.get(media_type.partition(";")[0].strip().lower())
    named = SUFFIXES.get(Path(file_name).suffix.lower())
    if declared or named:
        return cast("Format", declared or named)
    if first_bytes.startswith(b"PAR1"):
        return "parquet"
    return "ndjson" if first_bytes.lstrip().startswith(b"{") else "csv"


CHUNK_BYTES = 2**20


class Upload(Protocol):
    """A file on its way: its bytes, and what is known of it once they have come."""

    file_name: str
    media_type: str

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class DatasetLimits:
    """What an upload may have; `seconds` to come, and again to be checked."""

    rows: int = 100_000_000
    columns: int = 10_000
    cell_bytes: int = 2**20
    seconds: float = 900.0


def limits_of(settings: Settings) -> DatasetLimits:
    """The limits that the settings set."""
    return DatasetLimits(
        rows=settings.max_dataset_rows,
        columns=settings.max_dataset_columns,
        cell_bytes=settings.max_cell_bytes,
        seconds=settings.max_dataset_seconds,
    )


class Datasets:
    """The same bytes in the same format are one dataset, however often they come."""

    def __init__(
        self,
        database: Database,
        home: Path,
        storage_url: str | None = None,
        limits: DatasetLimits | None = None,
    ) -> None:
        self._database = database
        self._storage = open_storage(home, storage_url)
        self._limits = limits or DatasetLimits()

    def path(self, sha256: str) -> Path:
        """Where the file with that checksum can be read on this machine."""
        return self._storage.path(_name(sha256))

    async def receive(self, upload: Upload, name: str | None) -> tuple[Dataset, bool]:
        """Stores an upload, under its own name if none is given; also says whether it is new.

        Raises:
            DataError: the file is not readable as its format.
            InvalidError: it is empty.
            TooSlowError: it has not come in time.
        """
        partial = await to_thread.run_sync(self._storage.scratch)
        digest = hashlib.sha256()
        first_bytes = b""
        started = time.monotonic()
        try:
            with partial.open("wb") as file:
                async for chunk in upload:
                    if time.monotonic() - started > self._limits.seconds:
                        most = f"{self._limits.seconds:g} s"
                        raise TooSlowError(f"the upload takes longer than the {most} allowed")
                    first_bytes = first_bytes or chunk[:64]
                    await to_thread.run_sync(_take, chunk, file, digest)
                file.flush()
                await to_thread.run_sync(os.fsync, file.fileno())
            if not first_bytes:
                raise InvalidError("the body is empty, and a file is due")
            kind = format_of(upload.media_type, upload.file_name, first_bytes)
            name = name or _printable(upload.file_name) or "dataset"
            return await to_thread.run_sync(self._keep, partial, digest.hexdigest(), kind, name)
        finally:
            partial.unlink(missing_ok=True)

    def add_file(self, path: Path, name: str) -> Dataset:
        """Stores a copy of a file of this machine."""
        partial = self._storage.scratch()
        digest = hashlib.sha256()
        try:
            with path.open("rb") as source, partial.open("wb") as file:
                first_bytes = source.peek(64)[:64]
                while chunk := source.read(CHUNK_BYTES):
                    _take(chunk, file, digest)
                file.flush()
                os.fsync(file.fileno())
            kind = format_of("", path.name, first_bytes)
            return self._keep(partial, digest.hexdigest(), kind, name)[0]
        finally:
            partial.unlink(missing_ok=True)

    def get(self, dataset_id: str) -> Dataset:
        """That dataset.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.read() as session:
            return self._get(session, dataset_id)

    def page(self, after: str | None, limit: int) -> tuple[list[Dataset], bool]:
        """A page, newest first, and whether there are more."""
        with self._database.read() as session:
            query = sa.select(Dataset).order_by(Dataset.number.desc()).limit(limit + 1)
            if after is not None:
                query = query.where(Dataset.number < self._get(session, after).number)
            found = list(session.scalars(query))
        return found[:limit], len(found) > limit

    def delete(self, dataset_id: str) -> None:
        """Removes a dataset and its file.

        Raises:
            NotFoundError: there is none.
            ConflictError: a job that waits or runs needs it.
        """
        with self._database.write() as session:
            # No job may be submitted that needs it while it goes.
            take_turn(session, "training jobs")
            dataset = self._get(session, dataset_id)
            query = sa.select(Job.id).where(
                Job.dataset == dataset_id, Job.status.in_(("queued", "running"))
            )
            users = list(session.scalars(query))
            if users:
                raise ConflictError(
                    f"{dataset_id} is needed by {', '.join(users)}: cancel it first"
                )
            session.delete(dataset)
        with self._database.write() as session:
            take_turn(session, "datasets")
            others = sa.select(sa.func.count()).where(Dataset.sha256 == dataset.sha256)
            if session.scalar(others) == 0:
                self._storage.remove(_name(dataset.sha256))

    def _get(self, session: Session, dataset_id: str) -> Dataset:
        found = session.scalar(sa.select(Dataset).where(Dataset.id == dataset_id))
        if found is None:
            raise NotFoundError(f"there is no dataset {dataset_id[:64]!r}")
        return found

    def _keep(self, partial: Path, sha256: str, kind: Format, name: str) -> tuple[Dataset, bool]:
        same = sa.select(Dataset).where(Dataset.sha256 == sha256, Dataset.format == kind)
        with self._database.read() as session:
            found = session.scalar(same)
        if found is not None:
            return found, False
        limits = Limits(**asdict(self._limits))
        n_rows, profiles = profile_file(partial, kind, limits)
        size = partial.stat().st_size
        # Before the turn: to a store far away it takes its time.
        self._storage.put(partial, _name(sha256))
        with self._database.write() as session:
            take_turn(session, "datasets")
            # Another upload of the same bytes may have been faster.
            found = session.scalar(same)
            if found is not None:
                return found, False
            if not self._storage.has(_name(sha256)):
                # Deleted, or taken for something that nobody needs, between these two steps.
                raise StorageError("the upload got lost on its way: send it again", 1)
            dataset = Dataset(
                id=_dataset_id(sha256, kind),
                name=name,
                format=kind,
                sha256=sha256,
                bytes=size,
                rows=n_rows,
                columns=[_column(profile) for profile in profiles],
                created_at=now(),
            )
            session.add(dataset)
        return dataset, True


def _name(sha256: str) -> str:
    """Of a file in the store."""
    return f"datasets/{sha256}"


def _take(chunk: bytes, file: IO[bytes], digest: hashlib._Hash) -> None:
    digest.update(chunk)
    file.write(chunk)


def _printable(name: str) -> str:
    return "".join(c for c in name if c.isprintable())[:200]


def _column(profile: ColumnProfile) -> dict[str, Any]:
    return asdict(profile) | {"examples": list(profile.examples)}


def _dataset_id(sha256: str, kind: Format) -> str:
    """The same for the same bytes in the same format, on every installation."""
    return f"ds_{hashlib.sha256(f'{kind} {sha256}'.encode()).hexdigest()[:20]}"


def read_rows(path: Path, schema: Schema) -> list[dict[str, Any]]:
    """The rows of a file of this machine that has all features of the schema as columns.

    Raises:
        DataError: the file is not readable as what its name says.
        InvalidError: it lacks a column.
    """
    with path.open("rb") as file:
        kind = format_of("", path.name, file.read(64))
    categories = [f.name for f in schema.features if isinstance(f, CategoryFeature)]
    table = read_table(path, kind, categories)
    names = [feature.name for feature in schema.features]
    missing = [name for name in names if name not in table.column_names]
    if missing:
        known = table.column_names
        hint = near(missing[0], set(known) - set(names)) or f" (columns: {listed(known)})"
        more = f"; {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise InvalidError(f"{path.name} has no column {missing[0]!r}{hint}{more}")
    return records(table, schema)
