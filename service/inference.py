"""Loaded versions, and what is computed with them: requests in, rows for the wire out.

The only room of the service, beside the worker's child, that calls the mathematics. Small
work is done at once; larger work goes to a thread, so that the event loop never waits long.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from models.artifact import Artifact, load_artifact
from models.device import available_threads, resolve_device
from models.errors import NonFiniteError
from models.estimators import Draw, estimate
from models.sampling import Plan, make_plan, predict
from models.trace import trace_dropout
from service import answers
from service.errors import InvalidError, NotFoundError, OverloadedError
from service.registry import PRODUCTION, Entry, Registry
from service.schemas import DropoutRequest, UncertaintyRequest
from service.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

# Multiply-adds, and rows, up to which a request is computed on the event loop: about 1 ms.
INLINE_WORK = 20_000_000
INLINE_ROWS = 64
# Two, so that one long request does not hold up all others.
COMPUTE_THREADS = 2


@dataclass(frozen=True)
class LoadedVersion:
    """A version in memory, ready to answer."""

    model: str
    version: int
    artifact: Artifact
    plan: Plan


@dataclass(frozen=True)
class Address:
    """Which version a path names; without version and alias, production."""

    model: str
    version: str | None = None
    alias: str | None = None


class Inference:
    """Answers the inference routes from versions that it loads and keeps."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._device = resolve_device(settings.device)
        self._threads = ThreadPoolExecutor(COMPUTE_THREADS, thread_name_prefix="compute")
        self._entries: Mapping[str, Entry] = {}
        self._loaded: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        self._loading: dict[tuple[str, int], asyncio.Task[LoadedVersion]] = {}
        self._waiting = 0
        torch.set_num_threads(settings.threads or available_threads())

    async def refresh(self) -> None:
        """Takes over the registry's present state, and loads what it newly calls production
        before any request is led there."""
        entries = await asyncio.to_thread(self._registry.snapshot)
        for name, entry in entries.items():
            version = entry.aliases.get(PRODUCTION)
            if version is None or (name, version) in self._loaded:
                continue
            try:
                await self._load(entry, version)
            except Exception:
                # The version before it goes on answering; requests for this one say why not.
                log.exception("%s version %d cannot be loaded", name, version)
        self._entries = entries

    async def catch_up(self, model: str, version: int) -> None:
        """Sees to it that a version which a client was told of is known here, too."""
        entry = self._entries.get(model)
        if entry is None or version not in entry.versions:
            await self.refresh()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def predict(self, address: Address, instances: list[Any]) -> dict[str, Any]:
        """The answer of `:predict`.

        Raises:
            NotFoundError: the address names nothing.
            InvalidError: too many rows.
            EncodeError: rows that do not fit the schema.
        """
        self._check_rows(instances)
        loaded = await self.find(address)
        work = len(instances) * loaded.plan.products_per_row
        return await self._compute(work, len(instances), lambda: _predict(loaded, instances))

    async def uncertainty(self, address: Address, request: UncertaintyRequest) -> dict[str, Any]:
        """The answer of `:uncertainty`.

        Raises:
            NotFoundError: the address names nothing.
            InvalidError: more rows, samples or work than the limits allow.
            EncodeError: rows that do not fit the schema.
            NotStochasticError: the model has no dropout.
            CoverageError: more coverage than the calibration can vouch for.
        """
        started = time.monotonic()
        self._check_rows(request.instances)
        loaded = await self.find(address)
        work = self._check_work(loaded, request)
        seed = secrets.randbelow(2**53) if request.seed is None else request.seed
        deadline = None if request.deadline_ms is None else started + request.deadline_ms / 1e3
        draw = Draw(
            n_samples=request.n_samples,
            seed=seed,
            quantiles=tuple(request.quantiles),
            tolerance=request.tolerance,
            deadline=deadline,
            keep_samples=request.return_samples,
        )
        return await self._compute(
            work, len(request.instances), lambda: _uncertainty(loaded, request, draw)
        )

    async def dropout(self, address: Address, request: DropoutRequest) -> dict[str, Any]:
        """The answer of `:dropout`; raises as `uncertainty` does."""
        if (request.instance is None) == (request.instances is None):
            message = "give one row: as instance, or as the only one of instances"
            raise InvalidError(message, errors=[{"loc": ["instance"], "msg": message}])
        instance = request.instances[0] if request.instances else request.instance
        loaded = await self.find(address)
        seed = secrets.randbelow(2**53) if request.seed is None else request.seed
        work = request.n_samples * loaded.plan.products_per_row
        return await self._compute(
            work, 1, lambda: _dropout(loaded, instance, seed, request.n_samples)
        )

    async def find(self, address: Address) -> LoadedVersion:
        """The version that an address names, loaded.

        Raises:
            NotFoundError: there is none.
        """
        try:
            entry, version = self._resolve(address)
        except NotFoundError:
            # It may have come into being since the last look.
            await self.refresh()
            entry, version = self._resolve(address)
        key = (entry.name, version)
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        return await self._load(entry, version)

    def _resolve(self, address: Address) -> tuple[Entry, int]:
        entry = self._entries.get(address.model)
        if entry is None:
            raise NotFoundError(f"there is no model {address.model[:64]!r}")
        if address.version is not None:
            text = address.version
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
            if number not in entry.versions:
                known = ", ".join(map(str, sorted(entry.versions)[-10:]))
                raise NotFoundError(f"{entry.name} has no version {text[:64]!r} (it has {known})")
            return entry, number
        alias = address.alias if address.alias is not None else PRODUCTION
        if alias not in entry.aliases:
            raise NotFoundError(
                f"{entry.name} has no alias {alias[:64]!r}: point it to a version with PUT "
                f"/v1/models/{entry.name}/aliases/{alias[:64]}"
            )
        return entry, entry.aliases[alias]

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
        folder = self._registry.artifact_folder(entry.name, version, entry.versions[version])
        loaded = await asyncio.to_thread(self._read, entry.name, version, folder)
        self._loaded[entry.name, version] = loaded
        while len(self._loaded) > self._settings.max_loaded_versions:
            self._loaded.popitem(last=False)
        return loaded

    def _read(self, model: str, version: int, folder: Any) -> LoadedVersion:
        artifact = load_artifact(folder)
        plan = make_plan(artifact.network, self._device)
        # The first pass through a network is slow; nobody should wait for it.
        predict(plan, torch.zeros(1, plan.config.in_features))
        log.info("loaded %s version %d on %s", model, version, plan.device)
        return LoadedVersion(model, version, artifact, plan)

    def _check_rows(self, instances: list[Any]) -> None:
        most = self._settings.max_rows
        if len(instances) > most:
            message = f"{len(instances)} rows are more than the {most} of one request"
            raise InvalidError(message, errors=[{"loc": ["instances"], "msg": message}])

    def _check_work(self, loaded: LoadedVersion, request: UncertaintyRequest) -> int:
        values = len(request.instances) * request.n_samples
        outputs = values * loaded.plan.config.out_features
        work = values * loaded.plan.products_per_row
        keeps_all = request.return_samples or request.tolerance or request.deadline_ms
        place, limit, ask, what = "n_samples", self._settings.max_work, work, "multiply-adds"
        if request.return_samples and outputs > self._settings.max_returned_samples:
            place, limit = "return_samples", self._settings.max_returned_samples
            ask, what = outputs, "sample values in one answer"
        elif keeps_all and outputs > MOST_KEPT_OUTPUTS:
            place, limit, ask = "n_samples", MOST_KEPT_OUTPUTS, outputs
            what = "sample values with tolerance or deadline_ms"
        if ask > limit:
            message = f"{ask} {what} are more than the {limit} allowed: fewer rows or samples"
            raise InvalidError(message, errors=[{"loc": [place], "msg": message}])
        return work

    async def _compute(self, work: int, n_rows: int, function: Callable[[], T]) -> T:
        """Small work at once, larger work in a thread, and none if too much waits already."""
        if work <= INLINE_WORK and n_rows <= INLINE_ROWS:
            return function()
        if self._waiting >= self._settings.max_waiting:
            message = f"{self._waiting} requests wait for computation already"
            raise OverloadedError(message, retry_after_seconds=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        finally:
            self._waiting -= 1


# Outputs held at once by a draw that may stop early, or that is sent whole: 80 MB.
MOST_KEPT_OUTPUTS = 20_000_000


def _predict(loaded: LoadedVersion, instances: list[Any]) -> dict[str, Any]:
    schema = loaded.artifact.schema
    encoded = schema.encode(instances)
    outputs = _eval_outputs(loaded, torch.from_numpy(encoded.inputs))
    rows = answers.predictions(schema.target, schema.decode(outputs))
    answers.add_flags(rows, encoded.flags)
    return {"model": loaded.model, "version": loaded.version, "predictions": rows}


def _uncertainty(loaded: LoadedVersion, request: UncertaintyRequest, draw: Draw) -> dict[str, Any]:
    schema, calibration = loaded.artifact.schema, loaded.artifact.calibration
    encoded = schema.encode(request.instances)
    # Before the work, not after it: whether this coverage can be had at all.
    calibration.quantile(request.coverage)
    x = torch.from_numpy(encoded.inputs)
    drawn = estimate(loaded.plan, schema.target, x, draw)
    values = schema.decode(_eval_outputs(loaded, x))
    rows = answers.uncertain_predictions(
        schema.target, values, drawn, calibration, draw.quantiles, request.coverage
    )
    answers.add_flags(rows, encoded.flags)
    return {
        "model": loaded.model,
        "version": loaded.version,
        "mode": "mc_dropout",
        "estimator": "mc",
        "n_samples": draw.n_samples,
        "samples_used": drawn.samples_used,
        "seed": draw.seed,
        "converged": drawn.converged,
        "predictions": rows,
    }


def _eval_outputs(loaded: LoadedVersion, x: torch.Tensor) -> np.ndarray:
    """(N, C) in the network's own units."""
    raw = predict(loaded.plan, x)[:, : loaded.plan.config.out_features].cpu().numpy()
    if not np.isfinite(raw).all():
        raise NonFiniteError(np.flatnonzero(~np.isfinite(raw).all(axis=1)).tolist())
    return raw


def _dropout(loaded: LoadedVersion, instance: Any, seed: int, n_samples: int) -> dict[str, Any]:
    schema = loaded.artifact.schema
    encoded = schema.encode([instance])
    x = torch.from_numpy(encoded.inputs)
    eval_values = schema.decode(_eval_outputs(loaded, x))
    drawn = estimate(
        loaded.plan, schema.target, x, Draw(n_samples=n_samples, seed=seed, keep_samples=True)
    )
    trace = trace_dropout(loaded.plan, x, seed=seed, n_samples=n_samples)
    return {
        "model": loaded.model,
        "version": loaded.version,
        "mode": "mc_dropout",
        "seed": seed,
        "n_samples": n_samples,
        **answers.dropout(schema.target, eval_values, drawn, trace, encoded.flags[0]),
    }
