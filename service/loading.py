"""Which version a request means, and that version in memory: loaded once, kept while in use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.artifact import Artifact, load_artifact
from models.device import resolve_device
from models.draw import Draw
from models.errors import ArtifactError
from models.estimators import estimate
from models.mask_cache import MaskCache
from models.plan import with_own_masks
from models.sampling import Plan, make_plan, predict
from service.errors import NotFoundError
from service.registry import PRODUCTION, Entry, Registry

log = logging.getLogger(__name__)

# A version that could not be loaded is tried again after so long, or when it is asked for.
RETRY_SECONDS = 30.0
# Masks that are kept for the next request with the same seed, of all versions together.
MASK_CACHE_BYTES = 2**24


@dataclass(frozen=True)
class Address:
    """Which version a path names; without version and alias, production."""

    model: str
    version: str | None = None
    alias: str | None = None


@dataclass(frozen=True)
class LoadedVersion:
    """A version in memory, ready to answer."""

    model: str
    version: int
    artifact: Artifact
    plan: Plan

    @property
    def for_a_fresh_seed(self) -> LoadedVersion:
        """The same, for one request whose masks nobody is going to ask for again."""
        return replace(self, plan=with_own_masks(self.plan))


class Loader:
    """Follows the registry, and holds the versions that were asked for last, at most `most`."""

    def __init__(self, registry: Registry, *, device: str, most: int) -> None:
        self._registry = registry
        self._device = resolve_device(device)
        self._masks = MaskCache(MASK_CACHE_BYTES)
        self._most = most
        self._entries: Mapping[str, Entry] = {}
        self._loaded: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        self._loading: dict[tuple[str, int], asyncio.Task[LoadedVersion]] = {}
        self._failed: dict[tuple[str, int], float] = {}  # and when
        self._turn = asyncio.Lock()
        self._looks_begun = self._last_look = 0

    async def refresh(self) -> None:
        """Takes over the registry's present state, one look after the other.

        What has newly become production, or what another alias in use now means, is loaded
        before any request is led there. If it cannot be, the version before goes on answering.
        """
        begun = self._looks_begun
        async with self._turn:
            if self._last_look > begun:
                return  # While this one waited another began, and saw as much.
            self._looks_begun += 1
            entries = await asyncio.to_thread(self._registry.snapshot)
            room = self._most
            moves = []
            for name, entry in entries.items():
                for alias in self._moved(entry):
                    before = self._pointed(name, alias)
                    if before is None:
                        if room == 0:
                            continue  # Loaded when it is first asked for.
                        room -= 1
                    moves.append((name, alias, before))
            # Together: one that takes its time holds up no other.
            ready = await asyncio.gather(
                *(self._takes_over(entries[name], alias) for name, alias, _ in moves)
            )
            for (name, alias, before), is_ready in zip(moves, ready, strict=True):
                if not is_ready:
                    entries[name] = _still(entries[name], alias, before)
            self._entries = entries
            self._last_look = self._looks_begun

    async def catch_up(self, model: str, version: int) -> None:
        """Sees to it that a version which a client was told of is known here, too."""
        entry = self._entries.get(model)
        if entry is None or version not in entry.versions:
            await self.refresh()

    @property
    def held(self) -> list[tuple[str, int]]:
        """Models and versions in memory."""
        return list(self._loaded)

    def identify(self, address: Address) -> tuple[str, str]:
        """Model and version that an address names; each is empty if it is not known here."""
        if address.model not in self._entries:
            return "", ""
        return address.model, str(self._number(address) or "")

    async def check_model(self, model: str) -> None:
        """Nothing, if there is such a model.

        Raises:
            NotFoundError: there is none.
        """
        if model not in self._entries:
            await self.refresh()
        if model not in self._entries:
            raise await self._not_found(Address(model))

    async def find(self, address: Address) -> LoadedVersion:
        """The version that an address names, loaded.

        Raises:
            NotFoundError: there is none.
            ArtifactError: it is damaged.
        """
        version = self._number(address)
        if version is None:
            # It may have come into being since the last look.
            await self.refresh()
            version = self._number(address)
        if version is None:
            raise await self._not_found(address)
        key = (address.model, version)
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        try:
            return await self._load(self._entries[address.model], version)
        except ArtifactError:
            known = await asyncio.to_thread(self._registry.snapshot)
            if address.model in known and version in known[address.model].versions:
                raise
            # It was deleted since the last look, and the alias moved before that.
            await self.refresh()
            return await self.find(address)

    def versions(self, model: str) -> list[int]:
        """The numbers of a model's versions, ascending; none of a model that is not there."""
        entry = self._entries.get(model)
        return sorted(entry.versions) if entry else []

    def index(self) -> list[tuple[str, int, bool]]:
        """Every version there is, and whether its last loading, if any, succeeded."""
        return [
            (name, version, (name, version) not in self._failed)
            for name in sorted(self._entries)
            for version in self.versions(name)
        ]

    def _number(self, address: Address) -> int | None:
        entry = self._entries.get(address.model)
        if entry is None:
            return None
        if address.version is None:
            return entry.aliases.get(PRODUCTION if address.alias is None else address.alias)
        text = address.version
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        return number if number in entry.versions else None

    async def _not_found(self, address: Address) -> NotFoundError:
        entry = self._entries.get(address.model)
        if entry is None:
            return await asyncio.to_thread(self._registry.no_model, address.model)
        if address.version is not None:
            known = ", ".join(map(str, sorted(entry.versions)[-10:]))
            return NotFoundError(
                f"{entry.name} has no version {address.version[:64]!r} (it has {known})"
            )
        alias = (PRODUCTION if address.alias is None else address.alias)[:64]
        return NotFoundError(
            f"{entry.name} has no alias {alias!r}: point it to a version with PUT "
            f"/v1/models/{entry.name}/aliases/{alias}"
        )

    def _pointed(self, model: str, alias: str) -> int | None:
        entry = self._entries.get(model)
        return entry.aliases.get(alias) if entry else None

    def _moved(self, entry: Entry) -> list[str]:
        """The aliases whose new version is to be in memory before they lead to it: production,
        and those whose old one is there."""
        return [
            alias
            for alias, version in entry.aliases.items()
            if (before := self._pointed(entry.name, alias)) != version
            and (alias == PRODUCTION or (entry.name, before) in self._loaded)
        ]

    async def _takes_over(self, entry: Entry, alias: str) -> bool:
        """Whether the version that the alias now means is in memory, after one attempt."""
        version = entry.aliases[alias]
        failed = self._failed.get((entry.name, version))
        if failed is not None and time.monotonic() - failed < RETRY_SECONDS:
            return False
        if (entry.name, version) not in self._loaded:
            try:
                await self._load(entry, version)
            except Exception:
                log.exception("%s version %d cannot be loaded", entry.name, version)
                return False
        return True

    async def _load(self, entry: Entry, version: int) -> LoadedVersion:
        """Loads once, however many ask for it at the same time."""
        key = (entry.name, version)
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load_now(entry, version))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def _load_now(self, entry: Entry, version: int) -> LoadedVersion:
        key = (entry.name, version)
        folder = self._registry.artifact_folder(entry.name, version, entry.versions[version])
        try:
            loaded = await asyncio.to_thread(self._read, entry.name, version, folder)
        except Exception:
            self._failed[key] = time.monotonic()
            raise
        self._failed.pop(key, None)
        self._loaded[key] = loaded
        while len(self._loaded) > self._most:
            self._loaded.popitem(last=False)
        return loaded

    def _read(self, model: str, version: int, folder: Path) -> LoadedVersion:
        artifact = load_artifact(folder)
        plan = make_plan(artifact.network, self._device, self._masks)
        # The first pass through a network is slow; nobody should wait for it.
        x = torch.zeros(1, plan.config.in_features)
        predict(plan, x)
        if plan.is_stochastic:
            estimate(plan, artifact.schema.target, x, Draw(n_samples=100, seed=0))
        log.info("loaded %s version %d on %s", model, version, plan.device)
        return LoadedVersion(model, version, artifact, plan)


def _still(entry: Entry, alias: str, version: int | None) -> Entry:
    """The entry with the alias pointing to that version, if it has it."""
    if version is None or version not in entry.versions:
        return entry
    return replace(entry, aliases={**entry.aliases, alias: version})
