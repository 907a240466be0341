"""The truth about rows that were answered."""

from __future__ import annotations

import asyncio
from collections import Counter

from fastapi import APIRouter, Request

from service.envelope import read_json
from service.errors import ConflictError
from service.openapi import body, problems
from service.routes.wiring import (
    FeedbackOf,
    InferenceOf,
    JsonResponse,
    MemoryOf,
    MetricsOf,
    SettingsOf,
)
from service.schemas import FeedbackRequest, FeedbackResponse, parse

router = APIRouter(tags=["inference"])


@router.post(
    "/v1/models/{model}:feedback",
    responses={200: {"model": FeedbackResponse}, **problems(400, 404, 409, 413, 422)},
    openapi_extra=body(FeedbackRequest),
)
async def post_feedback(
    request: Request,
    settings: SettingsOf,
    inference: InferenceOf,
    memory: MemoryOf,
    desk: FeedbackOf,
    metrics: MetricsOf,
    model: str,
) -> JsonResponse:
    """Tells what turned out to be true, so that `/metrics` shows whether intervals still hold."""
    wanted = parse(FeedbackRequest, await read_json(request, settings.max_body_bytes))
    if not memory.is_on:
        raise ConflictError("answers are not remembered here: DROPCAST_FEEDBACK_SHARE is 0")
    await inference.check_model(model)
    await memory.flush()
    outcomes = await asyncio.to_thread(desk.accept, model, wanted.feedback)
    counts = Counter(outcomes)
    metrics.told(counts)
    return JsonResponse(
        {
            "model": model,
            "counted": counts["counted"],
            "duplicates": counts["duplicate"],
            "unknown": counts["unknown"],
            "results": outcomes,
        }
    )
