"""`:predict`, `:uncertainty` and `:dropout`, each for production, a version, or an alias."""

from __future__ import annotations

from typing import NoReturn

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service import context
from service.computation import Instances, Numbers, Rows
from service.envelope import parse_json, read_body, read_json
from service.errors import InvalidError, NotFoundError
from service.inference import Address
from service.openapi import body, problems
from service.routes.wiring import Answer, InferenceOf, JsonResponse, SettingsOf
from service.schemas import (
    DropoutRequest,
    DropoutResponse,
    PredictRequest,
    PredictResponse,
    UncertaintyRequest,
    UncertaintyResponse,
    parse,
)
from service.wording import near

router = APIRouter(tags=["inference"])

VERSION, ALIAS = "/versions/{version}", "/labels/{alias}"

# What `service.shortcut` answers, by path.
SHORTCUTS: dict[str, Answer] = {}


async def predict(
    request: Request, settings: SettingsOf, inference: InferenceOf, address: Address
) -> JsonResponse:
    """Eval mode: one deterministic pass, dropout off. The same rows give the same bits."""
    inference.name("eval", address)
    sent = await read_body(request, settings.max_body_bytes)
    rows: Rows | None = Numbers.read(sent)
    if rows is None:
        wanted = parse(PredictRequest, parse_json(sent))
        name_rows(wanted.row_ids, len(wanted.instances))
        rows = Instances(wanted.instances)
    return JsonResponse(await inference.predict(address, rows))


async def uncertainty(
    request: Request, settings: SettingsOf, inference: InferenceOf, address: Address
) -> JsonResponse:
    """MC mode: T thinned networks, drawn by masks that the seed names, give a distribution."""
    inference.name("mc_dropout", address)
    wanted = parse(UncertaintyRequest, await read_json(request, settings.max_body_bytes))
    name_rows(wanted.row_ids, len(wanted.instances))
    return JsonResponse(await inference.uncertainty(address, wanted))


async def dropout(
    request: Request, settings: SettingsOf, inference: InferenceOf, address: Address
) -> JsonResponse:
    """What dropout does to one row, layer by layer, in eval mode and in one sample."""
    inference.name("dropout", address)
    wanted = parse(DropoutRequest, await read_json(request, settings.max_body_bytes))
    request.state.has_one_instance = wanted.instance is not None
    return JsonResponse(await inference.dropout(address, wanted))


def name_rows(row_ids: list[str] | None, n_rows: int) -> None:
    """Tells the request's context the client's own names of its rows."""
    if row_ids is None:
        return
    if len(row_ids) != n_rows or len(set(row_ids)) != n_rows:
        message = f"{n_rows} different names are due, one for each row"
        raise InvalidError(message, errors=[{"loc": ["row_ids"], "msg": message}])
    current = context.current()
    if current is not None:
        current.row_ids = row_ids


def _add(verb: str, answer: Answer, kind: type[BaseModel], response: type[BaseModel]) -> None:
    """One verb at its three addresses."""

    async def for_production(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str
    ) -> Response:
        return await answer(request, settings, inference, Address(model))

    async def for_version(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str, version: str
    ) -> Response:
        return await answer(request, settings, inference, Address(model, version=version))

    async def for_alias(
        request: Request, settings: SettingsOf, inference: InferenceOf, model: str, alias: str
    ) -> Response:
        return await answer(request, settings, inference, Address(model, alias=alias))

    for endpoint, middle, of in (
        (for_production, "", "production"),
        (for_version, VERSION, "a version"),
        (for_alias, ALIAS, "an alias"),
    ):
        path = f"/v1/models/{{model}}{middle}:{verb}"
        SHORTCUTS[path] = answer
        router.add_api_route(
            path,
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


async def unknown_verb(verb: str) -> NoReturn:
    """Says which verbs there are."""
    verbs = ("predict", "uncertainty", "dropout", "feedback")
    message = f"there is no verb {verb[:64]!r} (the verbs are {', '.join(verbs)})"
    raise NotFoundError(message + near(verb, verbs))


# After the others: what none of them took.
for _middle in ("", VERSION, ALIAS):
    router.add_api_route(
        f"/v1/models/{{model}}{_middle}:{{verb}}",
        unknown_verb,
        methods=["POST"],
        include_in_schema=False,
        response_model=None,
    )
