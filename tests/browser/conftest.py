"""Chromium on the page of one real service, whose models were trained for a few epochs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from models.ingest import read_table
from models.recipe import Recipe
from models.training_run import TrainingOptions
from tests.e2e.conftest import CONCRETE, PENGUINS, Service
from tests.http.conftest import publish

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# As long as a machine may take on which much else runs; nothing waits that long for nothing.
PATIENCE_MS = 40_000
expect.set_options(timeout=PATIENCE_MS)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-dev-shm-usage",
]
LONG_NAME = "a_feature_whose_name_is_far_longer_than_any_place_that_there_is_for_it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        if CHROMIUM is None:
            reason = "chromium is not installed: the page was not tried in a browser"
            item.add_marker(pytest.mark.skip(reason=reason))


def large_table() -> pa.Table:
    """200 features, some with long names, and ten classes."""
    rng = np.random.default_rng(0)
    n = 240
    names = [f"{LONG_NAME}_{i}" if i % 20 == 0 else f"x{i}" for i in range(200)]
    columns = {name: rng.normal(size=n) for name in names}
    kinds = [f"class number {i % 10} of ten" for i in range(n)]
    return pa.table(columns | {"kind": kinds})


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Models: concrete (two versions), penguins, weights (DropConnect), plain (no dropout),
    and large (three layers of 1,024)."""
    one = Service(tmp_path_factory.mktemp("page") / "home")
    concrete, penguins = (read_table(path, "csv") for path in (CONCRETE, PENGUINS))
    few = TrainingOptions(epochs=25)
    strength = Recipe("compressive_strength", hidden=(64, 64), training=few)
    small = Recipe("compressive_strength", hidden=(16, 16), training=TrainingOptions(epochs=2))
    large = Recipe(
        "kind",
        hidden=(1024, 1024, 1024),
        training=TrainingOptions(epochs=1),
        validation_fraction=0.05,
        calibration_fraction=0.05,
    )
    publish(one.home, "large", large_table(), large)
    publish(one.home, "plain", concrete, Recipe(**vars(small) | {"p": 0.0}))
    publish(one.home, "weights", concrete, Recipe(**vars(small) | {"dropout": "dropconnect"}))
    publish(one.home, "penguins", penguins, Recipe("species", hidden=(64, 64), training=few))
    publish(one.home, "concrete", concrete, small)
    publish(one.home, "concrete", concrete, strength)
    one.start()
    yield one
    one.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ended with the folder: as long as it runs, no other test may have an event loop."""
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield one
        one.close()


class Visit:
    """A page of its own; what the console says is a fault unless it is expected."""

    def __init__(self, context: BrowserContext, service: Service) -> None:
        self.service = service
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.said: list[str] = []
        self.expected: set[str] = set()
        self.asked: set[str] = set()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def open(self, part: str = "") -> Page:
        self.page.goto(f"http://127.0.0.1:{self.service.port}/{part}")
        return self.page

    def expect_failure(self, how: str) -> None:
        """Chromium reports every refused request at the console, sooner or later."""
        self.expected.add(how)

    @property
    def faults(self) -> list[str]:
        return [text for text in self.said if not any(how in text for how in self.expected)]


@pytest.fixture(scope="package")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all visits, so that plotly is sent and compiled once."""
    one = browser.new_context(
        viewport={"width": 1440, "height": 900}, locale="en-US", reduced_motion="reduce"
    )
    yield one
    one.close()


@pytest.fixture
def visit(context: BrowserContext, service: Service) -> Iterator[Visit]:
    one = Visit(context, service)
    yield one
    one.page.close()
    assert one.faults == []
    home = f"http://127.0.0.1:{service.port}/"
    foreign = {url for url in one.asked if not url.startswith((home, "blob:", "data:"))}
    assert not foreign
