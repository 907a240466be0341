"""The real application over real artifacts, in this process; workers are for tests/e2e."""

import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI

from models import save_artifact
from models.recipe import Recipe, finish, prepare
from models.training import fit
from models.training_run import TrainingOptions
from service.app import create_app
from service.database import Database
from service.registry import Registry
from service.settings import Settings
from tests.http import jobs

FAST = TrainingOptions(epochs=12, batch_size=32)


def strength_table() -> pa.Table:
    """A regression with a number, a number with holes, and a category."""
    rng = np.random.default_rng(0)
    n = 300
    age, water = rng.uniform(1, 90, n), rng.uniform(120, 250, n)
    holes = [None if i % 9 == 0 else float(v) for i, v in enumerate(water)]
    site = np.array(["north", "south", "west"], dtype=object)[rng.integers(0, 3, n)]
    y = 20 + 0.4 * age - 0.1 * water + rng.normal(0, 2, n) + (site == "west") * 5
    return pa.table({"row_id": range(n), "age": age, "water": holes, "site": site, "strength": y})


def species_table() -> pa.Table:
    """A classification with three labels."""
    rng = np.random.default_rng(1)
    n = 300
    bill, mass = rng.normal(45, 5, n), rng.normal(4200, 700, n)
    noise = rng.normal(0, 1, n)
    labels = np.where(bill + noise > 48, "Gentoo", np.where(mass > 4200, "Chinstrap", "Adelie"))
    return pa.table({"bill": bill, "mass": mass, "species": labels.astype(object)})


def publish(home: Path, name: str, table: pa.Table, recipe: Recipe) -> None:
    """Trains in this process and makes the artifact a version in production."""
    database = Database(Settings(home=home).database)
    database.migrate()
    registry = Registry(database, home)
    prepared = prepare(table, recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, recipe.training)
    provenance = {
        "job": "job_0",
        "dataset_sha256": "0" * 64,
        "seed": 0,
        "torch": "",
        "dropcast": "",
    }
    artifact = finish(prepared, fitted, "2026-01-01T00:00:00Z", provenance)
    staged = home / "staged"
    card = artifact.card() | {"artifact_sha256": save_artifact(artifact, staged)}
    with database.write() as session:
        version = registry.reserve_version(session, name)
    registry.place_artifact(staged, name, version, card["artifact_sha256"])
    with database.write() as session:
        registry.add_version(session, name, version, card, promote=True)
    database.close()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with models: strength (two versions), species, plain (no dropout), and strength
    with the other kinds of dropout."""
    home = tmp_path_factory.mktemp("published")
    recipe = Recipe("strength", hidden=(32, 24), p=0.2, training=FAST)
    publish(home, "strength", strength_table(), recipe)
    publish(home, "strength", strength_table(), replace(recipe, p=0.1))
    species = Recipe("species", hidden=(32, 24), p=0.2, training=FAST)
    publish(home, "species", species_table(), species)
    publish(home, "plain", strength_table(), replace(recipe, p=0.0))
    for kind in ("gaussian", "concrete", "dropconnect"):
        publish(home, kind, strength_table(), replace(recipe, dropout=kind, input_p=0.1))
    return home


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(published, tmp_path / "home"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def serve(home: Path, anyio_backend: str) -> AsyncIterator[Callable[..., "AsyncApp"]]:
    """Starts applications, with settings as wished; all end with the test."""
    running: list[AsyncApp] = []

    async def start(**settings: object) -> AsyncApp:
        defaults = {"home": home, "examples": False, "threads": 1}
        app = AsyncApp(create_app(Settings(**defaults | settings)))
        await app.__aenter__()
        running.append(app)
        return app

    yield start
    for app in running:
        await app.__aexit__(None, None, None)


class AsyncApp:
    """A started application and a client that speaks to it."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")
        self._lifespan = app.router.lifespan_context(app)

    async def __aenter__(self) -> "AsyncApp":
        await self._lifespan.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.aclose()
        await self._lifespan.__aexit__(None, None, None)


@pytest.fixture
async def client(serve: Callable[..., AsyncApp]) -> httpx.AsyncClient:
    """A client of an application with the default settings."""
    return (await serve()).client


@pytest.fixture(scope="module")
async def reader(
    published: Path, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one application for all tests of a file that leave it as it is."""
    home = shutil.copytree(published, tmp_path_factory.mktemp("read") / "home")
    async with AsyncApp(create_app(Settings(home=home, examples=False, threads=1))) as app:
        yield app.client


STRENGTH_ROW = {"age": 28.0, "water": 180.0, "site": "north"}
SPECIES_ROW = {"bill": 47.0, "mass": 4100.0}


@pytest.fixture
async def dataset(client: httpx.AsyncClient) -> str:
    response = await client.post(
        "/v1/datasets", content=jobs.CSV, headers={"content-type": "text/csv"}
    )
    return response.json()["id"]
