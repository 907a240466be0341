"""What routes need of the service, as FastAPI dependencies.

Asynchronous, so that FastAPI calls them: others it would send to a thread each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request, Response
from starlette.responses import JSONResponse

from service.datasets import Datasets
from service.feed import Feed
from service.feedback import FeedbackDesk
from service.inference import Address, Inference
from service.jobs import Jobs
from service.memory import Memory
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings

# What answers an address of a model, from wherever it is called.
Answer = Callable[[Request, Settings, Inference, Address], Awaitable[Response]]


class JsonResponse(JSONResponse):
    """JSON as orjson writes it; times in UTC with a Z."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        if headers:
            super().init_headers(headers)
            return
        length = b"%d" % len(self.body)
        self.raw_headers = [(b"content-length", length), (b"content-type", b"application/json")]


async def _settings(request: Request) -> Settings:
    return request.app.state.settings  # type: ignore[no-any-return]


async def _inference(request: Request) -> Inference:
    return request.app.state.inference  # type: ignore[no-any-return]


async def _registry(request: Request) -> Registry:
    return request.app.state.registry  # type: ignore[no-any-return]


async def _datasets(request: Request) -> Datasets:
    return request.app.state.datasets  # type: ignore[no-any-return]


async def _jobs(request: Request) -> Jobs:
    return request.app.state.jobs  # type: ignore[no-any-return]


async def _metrics(request: Request) -> Metrics:
    return request.app.state.metrics  # type: ignore[no-any-return]


async def _memory(request: Request) -> Memory:
    return request.app.state.memory  # type: ignore[no-any-return]


async def _feedback(request: Request) -> FeedbackDesk:
    return request.app.state.feedback  # type: ignore[no-any-return]


async def _feed(request: Request) -> Feed:
    return request.app.state.feed  # type: ignore[no-any-return]


SettingsOf = Annotated[Settings, Depends(_settings)]
InferenceOf = Annotated[Inference, Depends(_inference)]
RegistryOf = Annotated[Registry, Depends(_registry)]
DatasetsOf = Annotated[Datasets, Depends(_datasets)]
JobsOf = Annotated[Jobs, Depends(_jobs)]
MetricsOf = Annotated[Metrics, Depends(_metrics)]
MemoryOf = Annotated[Memory, Depends(_memory)]
FeedbackOf = Annotated[FeedbackDesk, Depends(_feedback)]
FeedOf = Annotated[Feed, Depends(_feed)]

Limit = Annotated[int, Query(ge=1, le=100, description="Most entries of this page")]
After = Annotated[str | None, Query(description="Id of the last entry of the page before")]
