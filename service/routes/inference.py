"""`:predict`, `:uncertainty` and `:dropout`, each for production, a version, or an alias."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.envelope import read_json
from service.inference import Address, Inference
from service.openapi import body, problems
from service.routes.wiring import InferenceOf, JsonResponse, SettingsOf
from service.schemas import (
    DropoutRequest,
    DropoutResponse,
    PredictRequest,
    PredictResponse,
    UncertaintyRequest,
    UncertaintyResponse,
    parse,
)
from service.settings import Settings

router = APIRouter(tags=["inference"])

Answer = Callable[[Request, Settings, Inference, Address], Awaitable[JsonResponse]]


async def predict(
    request: Request, settings: SettingsOf, inference: InferenceOf, address: Address
) -> JsonResponse:
    """Eval mode: one deterministic pass, dropout off. The same rows give the same bits."""
    wanted = parse(PredictRequest, await read_json(request, settings.max_body_bytes))
    return JsonResponse(await inference.predict(address, wanted.instances))


async def uncertainty(
    request: Request, settings: SettingsOf, inference: InferenceOf, address: Address
) -> JsonResponse:
    """MC mode: T thinned networks, drawn by masks that the seed names, give a distribution."""
    wanted = parse(UncertaintyRequest, await read_json(request, settings.max_body_bytes))
    return JsonResponse(await inference.uncertainty(address, wanted))


async def dropout(
    request: Request, settings: SettingsOf, inference: InferenceOf, address: Address
) -> JsonResponse:
    """What dropout does to one row, layer by layer, in eval mode and in the first sample."""
    wanted = parse(DropoutRequest, await read_json(request, settings.max_body_bytes))
    return JsonResponse(await inference.dropout(address, wanted))


def _add(verb: str, answer: Answer, kind: type[BaseModel], response: type[BaseModel]) -> None:
    """One verb at its three addresses."""

    async def for_production(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str
    ) -> JsonResponse:
        return await answer(request, settings, inference, Address(model))

    async def for_version(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str, version: str
    ) -> JsonResponse:
        return await answer(request, settings, inference, Address(model, version=version))

    async def for_alias(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str, alias: str
    ) -> JsonResponse:
        return await answer(request, settings, inference, Address(model, alias=alias))

    for endpoint, middle, of in (
        (for_production, "", "production"),
        (for_version, "/versions/{version}", "a version"),
        (for_alias, "/labels/{alias}", "an alias"),
    ):
        router.add_api_route(
            f"/v1/models/{{model}}{middle}:{verb}",
            endpoint,
            methods=["POST"],
            summary=f"{verb.capitalize()} of {of}",
            description=answer.__doc__,
            operation_id=f"{verb}_{endpoint.__name__.removeprefix('for_')}",
            response_class=JsonResponse,
            responses={
                200: {"model": response, "description": "One prediction for each row"},
                **problems(400, 404, 413, 422, 503),
            },
            openapi_extra=body(kind),
        )


_add("predict", predict, PredictRequest, PredictResponse)
_add("uncertainty", uncertainty, UncertaintyRequest, UncertaintyResponse)
_add("dropout", dropout, DropoutRequest, DropoutResponse)
