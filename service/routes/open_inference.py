"""The Open Inference Protocol v2: the same models and answers for that protocol's clients."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.encodings import choose_encoding
from service.envelope import parse_json, read_body
from service.errors import NotReadyError
from service.inference import Address, Inference
from service.open_inference.infer import check_ready, infer
from service.open_inference.metadata import EXTENSIONS, describe_model
from service.open_inference.requests import HEADER_LENGTH
from service.openapi import body, problems
from service.routes import health
from service.routes.wiring import Answer, InferenceOf, JsonResponse, RegistryOf, SettingsOf
from service.schemas import (
    IndexEntry,
    IndexRequest,
    InferProblem,
    InferRequest,
    InferResponse,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    parse,
)
from service.settings import Settings

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

# What `service.shortcut` answers, by path.
SHORTCUTS: dict[str, Answer] = {}


@router.get("", response_model=ServerMetadata)
@router.get("/", include_in_schema=False)
async def server_metadata(inference: InferenceOf) -> JsonResponse:
    """The server, and which extensions of the protocol it has."""
    return JsonResponse(
        {
            "name": "dropcast",
            "version": importlib.metadata.version("dropcast"),
            "extensions": EXTENSIONS,
            "intra_op_threads": inference.threads,
            "compiled_kernel": inference.is_compiled,
        }
    )


@router.get("/health/live", response_model=Live)
async def server_live() -> JsonResponse:
    """The process answers."""
    return JsonResponse({"live": True})


@router.get("/health/ready", response_model=Ready, responses=problems(503, kind=InferProblem))
def server_ready(request: Request, registry: RegistryOf) -> JsonResponse:
    """The service can serve: it has started, is not draining, and reaches its database."""
    return health.ready(request, registry)


async def model_metadata(
    request: Request,  # noqa: ARG001 (as the others)
    settings: Settings,  # noqa: ARG001
    inference: Inference,
    address: Address,
) -> JsonResponse:
    """A model's tensors. It takes the first input by itself, or all the others together."""
    loaded = await inference.find(address)
    return JsonResponse(describe_model(loaded, inference.versions(address.model)))


async def model_ready(
    request: Request,
    settings: Settings,  # noqa: ARG001
    inference: Inference,
    address: Address,
) -> JsonResponse:
    """The version can answer."""
    if not request.app.state.is_ready:
        raise NotReadyError("the service is starting, or about to stop", retry_after_seconds=1)
    await check_ready(inference, address)
    return JsonResponse({"name": address.model, "ready": True})


async def model_infer(
    request: Request, settings: Settings, inference: Inference, address: Address
) -> Response:
    """Eval mode, or with the parameter `mode` `mc_dropout` MC mode: tensors in, tensors out, in
    JSON or, by the binary tensor extension, as bytes."""
    inference.name("", address)
    answer = await infer(
        inference,
        address,
        await read_body(request, settings.max_body_bytes),
        request.headers.getlist(HEADER_LENGTH),
        request_id=request.state.request_id,
        encoding=choose_encoding(",".join(request.headers.getlist("accept-encoding"))),
    )
    headers = {"Vary": "Accept-Encoding"}
    if answer.json_length is not None:
        headers[HEADER_LENGTH] = str(answer.json_length)
    if answer.encoding is not None:
        headers["Content-Encoding"] = answer.encoding
    media_type = "application/json" if answer.json_length is None else "application/octet-stream"
    return Response(answer.body, headers=headers, media_type=media_type)


@router.post(
    "/repository/index",
    response_model=list[IndexEntry],
    responses=problems(400, 413, 415, 422, kind=InferProblem),
    openapi_extra=body(IndexRequest, is_required=False),
)
async def repository_index(
    request: Request, settings: SettingsOf, inference: InferenceOf
) -> JsonResponse:
    """Every version of every model. All can answer but those that could not be loaded."""
    sent = await read_body(request, settings.max_body_bytes)
    wanted = parse(IndexRequest, parse_json(sent)) if sent.strip() else IndexRequest()
    return JsonResponse(
        [
            {
                "name": name,
                "version": str(version),
                "state": "READY" if can_answer else "UNAVAILABLE",
                "reason": "" if can_answer else "cannot be loaded: the service's log says why",
            }
            for name, version, can_answer in inference.index()
            if can_answer or not wanted.ready
        ]
    )


def _add(path: str, answer: Answer, response: type[BaseModel], *statuses: int, **more: Any) -> None:
    """One question at its two addresses."""

    async def of_production(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str
    ) -> Response:
        return await answer(request, settings, inference, Address(model))

    async def of_version(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str, version: str
    ) -> Response:
        return await answer(request, settings, inference, Address(model, version=version))

    for endpoint, middle in ((of_production, ""), (of_version, "/versions/{version}")):
        router.add_api_route(
            f"/models/{{model}}{middle}{path}",
            endpoint,
            summary=f"{answer.__name__.replace('_', ' ').capitalize()} of "
            f"{'a version' if middle else 'production'}",
            description=answer.__doc__,
            operation_id=f"{answer.__name__}_{endpoint.__name__}",
            response_model=None,
            responses={
                200: {"model": response, "description": "JSON"},
                **problems(*statuses, kind=InferProblem),
            },
            **more,
        )


_add("", model_metadata, ModelMetadata, 404, methods=["GET"])
_add("/ready", model_ready, ModelReady, 404, 503, methods=["GET"])
_add(
    "/infer",
    model_infer,
    InferResponse,
    *(400, 404, 413, 415, 422, 503),
    methods=["POST"],
    openapi_extra=body(InferRequest),
)

for _middle in ("", "/versions/{version}"):
    SHORTCUTS[f"/v2/models/{{model}}{_middle}/infer"] = model_infer
