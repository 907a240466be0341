"""`dropcast bench`: what answers of a model cost on this machine, without the way over HTTP."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from models.errors import DropcastError
from models.features import NumberFeature
from models.table import Schema
from service.commands.ask import OneModel
from service.commands.console import refuse, say
from service.computation import Instances
from service.database import Database
from service.errors import NotFoundError, ServiceError
from service.inference import Address, Inference
from service.loading import LoadedVersion
from service.registry import PRODUCTION, Registry
from service.schemas import UncertaintyRequest, parse
from service.settings import Settings

# Runs of one measurement, at least and at most, and those before it that do not count.
LEAST_RUNS, MOST_RUNS, WARM_UP_RUNS = 3, 1_000, 2

Answer = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Wish:
    """What to measure: T, the numbers of rows, and about how many seconds for each figure."""

    n_samples: int
    rows: Sequence[int]
    seconds: float


def bench(settings: Settings, name: str | None, version: int | None, wish: Wish) -> int:
    """Prints a table for that model, or for each one: milliseconds of eval mode and of MC mode."""
    database = Database(settings.database)
    database.migrate()
    names = [name] if name is not None else _names(Registry(database, settings.home))
    if not names:
        return refuse(f"there are no models yet in {settings.home}: train one, or name its home")
    for one in names:
        registry = OneModel(database, settings.home, one, version)
        try:
            asyncio.run(_bench(Inference(settings, registry), one, version, wish))
        except NotFoundError as error:
            return refuse(f"{error} (looked in {settings.home})")
        except (ServiceError, DropcastError) as error:
            return refuse(str(error))
    return 0


def _names(registry: Registry) -> list[str]:
    found, _ = registry.list_models(None, 100)
    return [model["model"] for model in found if PRODUCTION in model["aliases"]]


async def _bench(inference: Inference, name: str, version: int | None, wish: Wish) -> None:
    address = Address(name, version=None if version is None else str(version))
    loaded = await inference.find(address)
    table = Table("rows", "eval mode", "MC, auto", "MC, textbook masks", "T passes in train()")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("measuring", total=4 * len(wish.rows))
        for n_rows in wish.rows:
            instances = make_rows(loaded.artifact.schema, n_rows)
            cells = [f"{n_rows:,}"]
            for answer in _ways(inference, address, loaded, instances, wish.n_samples):
                cells.append(f"{await _median_ms(answer, wish.seconds):.3g} ms")
                bar.advance(shown)
            table.add_row(*cells)
    config = loaded.plan.config
    sizes = "-".join(map(str, (config.in_features, *config.hidden, config.out_features)))
    what = f"{name} version {loaded.version}, {sizes}, T = {wish.n_samples}"
    console = Console(markup=False)
    say(console, f"{what}, on {loaded.plan.device} with {inference.threads} threads")
    console.print(table)
    inference.close()


def make_rows(schema: Schema, n_rows: int) -> list[list[Any]]:
    """Rows like those of training: numbers within its range, categories that it had."""
    rng = np.random.default_rng(0)
    columns: list[list[Any]] = []
    for feature in schema.features:
        if isinstance(feature, NumberFeature):
            drawn = rng.normal(feature.mean, feature.std, n_rows)
            columns.append(np.clip(drawn, feature.minimum, feature.maximum).tolist())
        else:
            known = (*feature.categories, *feature.rare)
            columns.append([known[i] for i in rng.integers(0, len(known), n_rows).tolist()])
    return [list(row) for row in zip(*columns, strict=True)]


def _ways(
    inference: Inference,
    address: Address,
    loaded: LoadedVersion,
    instances: list[Any],
    n_samples: int,
) -> list[Answer]:
    def uncertain(estimator: str) -> Answer:
        wanted = {"instances": instances, "n_samples": n_samples, "estimator": estimator}
        request = parse(UncertaintyRequest, wanted)
        return lambda: inference.uncertainty(address, request)

    async def passes() -> None:
        """What one writes without us: the mean and spread of T passes, dropout left on."""
        network = loaded.artifact.network.train()
        x = loaded.artifact.encode(instances)
        with torch.no_grad():
            samples = torch.stack([network(x) for _ in range(n_samples)])
        loaded.artifact.decode(torch.stack([samples.mean(dim=0), samples.std(dim=0)]))

    return [
        lambda: inference.predict(address, Instances(instances)),
        uncertain("auto"),
        uncertain("mc"),
        passes,
    ]


async def _median_ms(answer: Answer, seconds: float) -> float:
    """The median of as many runs as fit into that time."""
    for _ in range(WARM_UP_RUNS):
        await answer()
    found: list[float] = []
    until = time.monotonic() + seconds
    while len(found) < LEAST_RUNS or (time.monotonic() < until and len(found) < MOST_RUNS):
        started = time.perf_counter()
        await answer()
        found.append(time.perf_counter() - started)
    return 1e3 * statistics.median(found)
