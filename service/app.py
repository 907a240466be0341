"""The application: the only place where the rooms are put together."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service import errors, openapi
from service.database import Database
from service.datasets import Datasets, limits_of
from service.envelope import Envelope
from service.feed import Feed
from service.feedback import FeedbackDesk
from service.gate import Gate
from service.inference import Inference
from service.jobs import Jobs
from service.keys import KeyRing, Keys
from service.memory import Memory
from service.metrics import Metrics
from service.registry import Registry
from service.routes import (
    datasets,
    feedback,
    health,
    inference,
    metrics,
    models,
    open_inference,
    page,
    training_jobs,
)
from service.settings import Settings
from service.shortcut import Shortcut
from service.standing import Standing
from service.sweeping import Sweeper
from service.tracing import Tracing, make_provider
from service.watch import Watch

log = logging.getLogger(__name__)

# How soon a moved alias is followed, a new version loaded, and a key let in or no more.
REFRESH_SECONDS = 0.5


def create_app(settings: Settings, tracing: Tracing | None = None) -> FastAPI:
    """The service: inference, models, datasets, training jobs, health.

    Raises:
        TracingError: the settings ask for tracing, none is given, and OpenTelemetry is not
            installed.
    """
    if tracing is None and settings.tracing:
        tracing = Tracing(make_provider())
    app: FastAPI = FastAPIOffline(
        # Its own looks for somebody to tell at every request; `service.tracing` is ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        title="Dropcast",
        version=importlib.metadata.version("dropcast"),
        summary="Predictions with honest uncertainty: Monte Carlo dropout, served.",
        redoc_url=None,
        lifespan=_lifespan,
    )
    database = Database(settings.database)
    registry = Registry(database, settings.home, settings.storage)
    jobs = Jobs(database, most_queued=settings.max_queued_jobs)
    app.state.settings = settings
    app.state.database = database
    app.state.registry = registry
    app.state.datasets = Datasets(database, settings.home, settings.storage, limits_of(settings))
    app.state.jobs = jobs
    app.state.feed = Feed(jobs)
    counted = Metrics(settings.metrics_folder, [Standing(database)])
    app.state.metrics = counted
    app.state.tracing = tracing
    app.state.memory = Memory(database, settings, counted)
    app.state.feedback = FeedbackDesk(database, window=settings.feedback_window)
    app.state.inference = Inference(settings, registry, [counted, app.state.memory])
    app.state.keys = Keys(database)
    app.state.key_ring = KeyRing()
    app.state.sweeper = Sweeper(settings, database, registry)
    app.state.is_ready = False
    for room in (
        feedback, inference, open_inference, models, datasets, training_jobs, health, metrics, page,
    ):  # fmt: skip
        app.include_router(room.router)
    errors.install(app)
    openapi.install(app)
    app.middleware_stack = Watch(Envelope(_make_door(app, settings)), counted, tracing)
    return app


def _make_door(app: FastAPI, settings: Settings) -> ASGIApp:
    """What lets requests in, and leads them to what answers: by the short way past all that
    FastAPI puts around its routers, or by that."""
    computing = app.state.inference
    ways = Shortcut(
        app.build_middleware_stack(),
        settings=settings,
        inference=computing,
        handlers=app.exception_handlers,
        answers=inference.SHORTCUTS | open_inference.SHORTCUTS,
    )
    gate = Gate(
        ways,
        settings=settings,
        ring=lambda: app.state.key_ring,
        is_full=lambda: computing.is_full,
    )
    if not settings.allowed_origins:
        return gate
    return CORSMiddleware(
        gate,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=[
            "Inference-Header-Content-Length",
            "Location",
            "Retry-After",
            "X-Request-Id",
        ],
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await asyncio.to_thread(app.state.database.migrate)
    await _refresh(app)
    tasks = [asyncio.create_task(_follow(app)), asyncio.create_task(app.state.memory.keep())]
    app.state.sweeper.start()
    app.state.is_ready = True
    yield
    app.state.is_ready = False
    await asyncio.to_thread(app.state.sweeper.stop)
    for task in tasks:
        task.cancel()
    await app.state.memory.flush()
    app.state.feed.stop()
    app.state.inference.close()
    app.state.database.close()
    app.state.metrics.close()
    if app.state.tracing is not None:
        await asyncio.to_thread(app.state.tracing.close)


async def _follow(app: FastAPI) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await _refresh(app)
        except Exception:
            # Loaded versions go on answering, known keys stay good; the next look may succeed.
            log.exception("cannot look for new versions and keys")


async def _refresh(app: FastAPI) -> None:
    if app.state.settings.needs_keys:
        app.state.key_ring = await asyncio.to_thread(app.state.keys.ring)
    await app.state.inference.refresh()
    app.state.metrics.hold(app.state.inference.held)
