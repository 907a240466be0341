"""Liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.errors import NotReadyError
from service.openapi import problems
from service.routes.wiring import JsonResponse, RegistryOf

router = APIRouter(tags=["operations"])


@router.get("/health")
@router.get("/health/live")
async def live() -> JsonResponse:
    """The process answers."""
    return JsonResponse({"live": True})


@router.get("/health/ready", responses=problems(503))
def ready(request: Request, registry: RegistryOf) -> JsonResponse:
    """The service can serve: it has started, is not draining, and reaches its database."""
    if not request.app.state.is_ready:
        raise NotReadyError("the service is starting, or about to stop", retry_after_seconds=1)
    # A database that does not answer is a 503 of its own.
    registry.snapshot()
    return JsonResponse({"ready": True})
