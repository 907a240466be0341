"""Figures for Prometheus."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service.routes.wiring import InferenceOf, MetricsOf

router = APIRouter(tags=["operations"])


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request, metrics: MetricsOf, inference: InferenceOf) -> Response:
    """The sums over all API processes, in the Prometheus text format or as OpenMetrics."""
    metrics.hold(inference.held)
    accept = request.headers.get("accept", "")
    text, media_type = await asyncio.to_thread(metrics.expose, accept)
    return Response(text, headers={"Content-Type": media_type})
