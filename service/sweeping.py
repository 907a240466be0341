"""What nobody needs any more: files that interrupted work has left, checkpoints of jobs that will
not go on, versions beyond those that are to be kept.

Each thing is looked at and removed while whoever might need it waits for its turn, and only when
it has lain untouched for longer than any work on it takes. Removing twice removes once: every
process may sweep.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import threading
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import Database, now, take_turn
from service.job_rows import FINISHED
from service.model_names import artifact_name
from service.registry import Registry
from service.settings import Settings
from service.storage import open_storage
from service.tables import Alias, Dataset, Job, Version

log = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0
# Longer than anything is under way between two writes.
LEAST_AGE_SECONDS = 3600.0
DAY_SECONDS = 86_400.0


class Sweeper:
    """Sweeps one home and its store."""

    def __init__(self, settings: Settings, database: Database, registry: Registry) -> None:
        self._home = settings.home
        self._database = database
        self._registry = registry
        self._storage = open_storage(settings.home, settings.storage)
        self._age = max(LEAST_AGE_SECONDS, 2 * settings.max_dataset_seconds)
        self._checkpoint_age = dt.timedelta(days=settings.checkpoint_days)
        self._keep_versions = settings.keep_versions
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        """Sweeps now and from time to time, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Returns once no sweep is under way, and none begins any more."""
        self._ending.set()
        self._thread.join()

    def sweep(self) -> list[str]:
        """Removes what nobody needs, and says what that was."""
        gone = [
            *self._sweep_versions(),
            *self._sweep_partial(),
            *self._sweep_cache(),
            *self._sweep_checkpoints(),
            *self._sweep_datasets(),
            *self._sweep_artifacts(),
        ]
        for what in gone:
            log.info("swept away: %s", what)
        return gone

    def _run(self) -> None:
        while True:
            try:
                self.sweep()
            except Exception:
                # What is left lies there until the next time.
                log.exception("cannot sweep")
            if self._ending.wait(SWEEP_SECONDS):
                return

    def _sweep_versions(self) -> list[str]:
        """Versions that no alias means, beyond the newest so many of each model."""
        if self._keep_versions is None:
            return []
        with self._database.read() as session:
            aliased = sa.exists().where(
                Alias.model == Version.model, Alias.version == Version.version
            )
            query = sa.select(Version.model, Version.version).where(~aliased)
            query = query.order_by(Version.model, Version.version.desc())
            unaliased: dict[str, list[int]] = {}
            for model, version in session.execute(query):
                unaliased.setdefault(model, []).append(version)
        return [
            f"{model} version {version}"
            for model, versions in unaliased.items()
            for version in versions[self._keep_versions :]
            if self._registry.discard_version(model, version)
        ]

    def _sweep_partial(self) -> list[str]:
        """Uploads and downloads that ended half way."""
        old = [path for path in _children(self._home / "partial") if self._is_old(_age(path))]
        return [_remove(path) for path in old]

    def _sweep_cache(self) -> list[str]:
        """Copies from a far store that have not been read for a day, unless a job needs them."""
        cache = self._home / "cache"
        with self._database.read() as session:
            query = sa.select(Dataset.sha256).join(Job, Job.dataset == Dataset.id)
            needed = set(session.scalars(query.where(Job.status.not_in(FINISHED))))
        copies = [*_children(cache / "datasets"), *cache.glob("models/*/*")]
        return [
            _remove(path)
            for path in copies
            if path.name not in needed and _age(path) > max(DAY_SECONDS, self._age)
        ]

    def _sweep_checkpoints(self) -> list[str]:
        """Those of jobs that succeeded, are gone, or ended long ago and were not resumed."""
        gone = []
        for folder in _children(self._home / "jobs"):
            with self._database.write() as session:
                # Whoever resumes the job waits, or was here before.
                take_turn(session, "training jobs")
                job = session.scalar(sa.select(Job).where(Job.id == folder.name))
                if not self._is_over(job, folder):
                    continue
                trash = self._storage.scratch()
                folder.rename(trash)
            _remove(trash)
            gone.append(str(folder))
        return gone

    def _is_over(self, job: Job | None, folder: Path) -> bool:
        if job is None:
            return self._is_old(_age(folder))
        if job.status not in FINISHED or job.finished_at is None:
            return False
        age = now() - job.finished_at
        if job.status == "succeeded":
            return self._is_old(age.total_seconds())
        return age > self._checkpoint_age

    def _sweep_datasets(self) -> list[str]:
        """Files that are no dataset's."""
        gone = []
        for entry in self._storage.entries("datasets/*"):
            if not self._is_old(time.time() - entry.modified):
                continue
            with self._database.write() as session:
                take_turn(session, "datasets")
                sha256 = entry.name.rpartition("/")[2]
                if session.scalar(sa.select(Dataset.id).where(Dataset.sha256 == sha256)) is None:
                    self._storage.remove(entry.name)
                    gone.append(entry.name)
        return gone

    def _sweep_artifacts(self) -> list[str]:
        """Folders that are no version's, of models that no job is about to publish."""
        gone = []
        for entry in self._storage.entries("models/*/*"):
            model = entry.name.split("/")[1]
            if not self._is_old(time.time() - entry.modified):
                continue
            with self._database.write() as session:
                take_turn(session, f"model {model}")
                if entry.name not in _artifacts(session, model) and not _is_awaited(session, model):
                    self._storage.remove(entry.name)
                    gone.append(entry.name)
        return gone

    def _is_old(self, age_seconds: float) -> bool:
        return age_seconds > self._age


def _artifacts(session: Session, model: str) -> set[str]:
    """Where the artifacts of a model's versions lie in the store."""
    query = sa.select(Version.version, Version.artifact_sha256).where(Version.model == model)
    return {artifact_name(model, number, sha256) for number, sha256 in session.execute(query)}


def _is_awaited(session: Session, model: str) -> bool:
    """Whether a job under way will publish a version of that model."""
    query = sa.select(Job.id).where(Job.status.not_in(FINISHED))
    query = query.where(Job.request["model"].as_string() == model)
    return session.scalar(query.limit(1)) is not None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path) -> float:
    """Seconds since it, or for a folder anything in it, was last written; 0 if it is gone."""
    try:
        parts = [path, *path.rglob("*")] if path.is_dir() else [path]
        return time.time() - max(part.stat().st_mtime for part in parts)
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> str:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return str(path)
