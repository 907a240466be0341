"""Training jobs: submit, follow, cancel, resume."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from service.envelope import read_json
from service.errors import InvalidError
from service.inference import Inference
from service.openapi import body, problems, reference
from service.routes.wiring import (
    After,
    FeedOf,
    InferenceOf,
    JobsOf,
    JsonResponse,
    Limit,
    SettingsOf,
)
from service.schemas import (
    JobEventPage,
    Page,
    Status,
    TrainingJob,
    TrainingJobRequest,
    parse,
)
from service.tables import Job as JobRow
from service.tables import JobEvent as JobEventRow

router = APIRouter(prefix="/v1/training_jobs", tags=["training"])

HEARTBEAT_SECONDS = 15.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@router.post(
    "",
    status_code=202,
    responses={202: {"model": TrainingJob}, **problems(400, 404, 409, 413, 422, 503)},
    openapi_extra=body(TrainingJobRequest),
)
async def create_job(
    request: Request,
    settings: SettingsOf,
    jobs: JobsOf,
    idempotency_key: Annotated[
        str | None, Header(description="The same key and body give the same job")
    ] = None,
) -> JsonResponse:
    """Queues the training of a new model version from a dataset."""
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        message = "an Idempotency-Key is 1 to 255 printable ASCII characters"
        raise InvalidError(message, errors=[{"loc": ["header", "Idempotency-Key"], "msg": message}])
    wanted = parse(TrainingJobRequest, await read_json(request, settings.max_body_bytes))
    job = await asyncio.to_thread(jobs.submit, wanted, idempotency_key)
    return JsonResponse(_wire(job), 202, {"Location": f"/v1/training_jobs/{job.id}"})


@router.get("", responses={200: {"model": Page[TrainingJob]}, **problems(404, 422)})
def list_jobs(
    jobs: JobsOf, status: Status | None = None, after: After = None, limit: Limit = 20
) -> JsonResponse:
    """All training jobs, newest first."""
    found, has_more = jobs.page(status, after, limit)
    data = [_wire(job) for job in found]
    return JsonResponse({"object": "list", "data": data, "has_more": has_more})


@router.get("/{job}", responses={200: {"model": TrainingJob}, **problems(404)})
async def get_job(jobs: JobsOf, inference: InferenceOf, job: str) -> JsonResponse:
    """A training job. Once it is seen here as succeeded, its version answers here."""
    found = await asyncio.to_thread(jobs.get, job)
    if found.result:
        await inference.catch_up(found.result["model"], found.result["version"])
    return JsonResponse(_wire(found))


@router.post("/{job}:cancel", responses={200: {"model": TrainingJob}, **problems(404, 409)})
def cancel_job(jobs: JobsOf, job: str) -> JsonResponse:
    """Ends a job: one that waits at once, one that runs within moments."""
    return JsonResponse(_wire(jobs.cancel(job)))


@router.post("/{job}:resume", responses={200: {"model": TrainingJob}, **problems(404, 409, 503)})
def resume_job(jobs: JobsOf, job: str) -> JsonResponse:
    """Queues a cancelled or failed job again, to go on from its last checkpoint."""
    return JsonResponse(_wire(jobs.resume(job)))


@router.get(
    "/{job}/events",
    response_class=JsonResponse,
    responses={
        200: {
            "content": {
                "application/json": {"schema": reference(JobEventPage)},
                "text/event-stream": {"schema": {"type": "string"}},
            },
            "description": "A page; with `Accept: text/event-stream` a stream until the job ends",
        },
        **problems(404, 422),
    },
)
async def get_events(
    request: Request,
    jobs: JobsOf,
    feed: FeedOf,
    inference: InferenceOf,
    job: str,
    after: Annotated[
        int | None, Query(ge=0, lt=2**31, description="Last id of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    order: Annotated[
        Literal["desc", "asc"], Query(description="Newest first, or oldest first")
    ] = "desc",
    last_event_id: Annotated[
        str | None, Header(description="The stream begins after this event")
    ] = None,
) -> Response:
    """What happened to a job: status changes, epochs, log lines."""
    if "text/event-stream" not in request.headers.get("accept", ""):
        found, has_more = await asyncio.to_thread(
            lambda: jobs.events(job, after=after, limit=limit, ascending=order == "asc")
        )
        data = [_wire_event(event) for event in found]
        return JsonResponse({"object": "list", "data": data, "has_more": has_more})
    found_job = await asyncio.to_thread(jobs.get, job)
    seen = last_event_id or ""
    start = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 10 else after or 0
    return StreamingResponse(
        _stream(feed.follow(found_job, start, HEARTBEAT_SECONDS), inference),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(
    events: AsyncIterator[JobEventRow | None], inference: Inference
) -> AsyncIterator[bytes]:
    async for event in events:
        if event is None:
            yield b": still here\n\n"
            continue
        if "result" in event.data:
            await inference.catch_up(event.data["result"]["model"], event.data["result"]["version"])
        data: dict[str, Any] = _wire_event(event)
        line = orjson.dumps(data, option=orjson.OPT_UTC_Z)
        yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), line)


def _wire(job: JobRow) -> dict[str, Any]:
    """The job as clients see it."""
    return {
        **job.request,
        "id": job.id,
        "object": "training_job",
        "status": job.status,
        "attempt": job.attempt,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "progress": job.progress,
        "metrics": job.metrics,
        "error": job.error,
        "result": job.result,
    }


def _wire_event(event: JobEventRow) -> dict[str, Any]:
    """The event as clients see it."""
    return {
        "id": event.id,
        "object": "training_job.event",
        "type": event.type,
        "level": event.level,
        "message": event.message,
        "data": event.data,
        "created_at": event.created_at,
    }
