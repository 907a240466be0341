"""Models, versions, aliases."""

from __future__ import annotations

import asyncio
import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from service.access import ROWS_OF_REPORT, may_read_rows
from service.artifact_files import unpack
from service.envelope import body_chunks, read_json
from service.inference import Address
from service.model_names import check_name
from service.openapi import body, problems
from service.routes.wiring import (
    After,
    InferenceOf,
    JsonResponse,
    Limit,
    RegistryOf,
    SettingsOf,
)
from service.schemas import (
    AliasAnswer,
    AliasRequest,
    Card,
    Model,
    Page,
    parse,
)

router = APIRouter(prefix="/v1/models", tags=["models"])

CHUNK_BYTES = 2**20


@router.get("", responses={200: {"model": Page[Model]}, **problems(404, 422)})
def list_models(registry: RegistryOf, after: After = None, limit: Limit = 20) -> JsonResponse:
    """All models, newest first."""
    models, has_more = registry.list_models(after, limit)
    return JsonResponse({"object": "list", "data": models, "has_more": has_more})


@router.get("/{model}", responses={200: {"model": Model}, **problems(404)})
def get_model(registry: RegistryOf, model: str) -> JsonResponse:
    """A model: its aliases and the cards of its versions, newest first."""
    return JsonResponse(registry.describe(model))


@router.get("/{model}/versions/{version}", responses={200: {"model": Card}, **problems(404)})
def get_version(request: Request, registry: RegistryOf, model: str, version: str) -> JsonResponse:
    """A version's card; rows of its table are only for keys that may train."""
    card = registry.card(model, version)
    if "report" in card and not may_read_rows(getattr(request.state, "scopes", None)):
        shown = {k: v for k, v in card["report"].items() if k not in ROWS_OF_REPORT}
        card = card | {"report": shown}
    return JsonResponse(card)


@router.get(
    "/{model}/versions/{version}/artifact",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            "description": "The artifact as one zip",
        },
        **problems(404),
    },
)
def get_artifact(registry: RegistryOf, model: str, version: str) -> Response:
    """The artifact as one .zip, which `models.load_artifact` reads."""
    with ExitStack() as stack:
        # It has no name, so nothing of it stays however this ends.
        file = stack.enter_context(tempfile.TemporaryFile())
        registry.write_zip(model, version, file)
        stack.pop_all()
    headers = {
        "Content-Length": str(file.tell()),
        "Content-Disposition": f'attachment; filename="{model}-{version}.zip"',
    }
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The whole file; it is closed afterwards."""
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@router.post(
    "/{model}/versions",
    status_code=201,
    responses={201: {"model": Card}, **problems(400, 408, 413, 422, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def create_version(
    request: Request,
    settings: SettingsOf,
    registry: RegistryOf,
    inference: InferenceOf,
    model: str,
    promote: Annotated[
        Literal["if_first", "always", "never"],
        Query(description="Whether it goes into production: if there is no version there yet …"),
    ] = "if_first",
) -> JsonResponse:
    """Makes an artifact, as `…/artifact` gives it, a new version of the model."""
    check_name(model)
    most = settings.max_artifact_bytes
    file, folder = registry.scratch(), registry.scratch()
    try:
        with file.open("wb") as target:
            async for chunk in body_chunks(request, most):
                await asyncio.to_thread(target.write, chunk)
        card = await asyncio.to_thread(unpack, file, folder, most)
        card = await asyncio.to_thread(
            functools.partial(registry.add_artifact, folder, model, card, promote=promote)
        )
    finally:
        await asyncio.to_thread(_remove, file, folder)
    await inference.refresh()
    location = f"/v1/models/{model}/versions/{card['version']}"
    return JsonResponse(card, 201, {"Location": location})


def _remove(file: Path, folder: Path) -> None:
    file.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


@router.put(
    "/{model}/aliases/{alias}",
    responses={200: {"model": AliasAnswer}, **problems(400, 404, 413, 422)},
    openapi_extra=body(AliasRequest),
)
async def put_alias(
    request: Request,
    settings: SettingsOf,
    registry: RegistryOf,
    inference: InferenceOf,
    model: str,
    alias: str,
) -> JsonResponse:
    """Points an alias to a version: promote, or roll back, without a failed request."""
    wanted = parse(AliasRequest, await read_json(request, settings.max_body_bytes))
    # Loaded before any request is led there; a damaged one never becomes production.
    await inference.find(Address(model, version=str(wanted.version)))
    await asyncio.to_thread(registry.set_alias, model, alias, wanted.version)
    await inference.refresh()
    return JsonResponse({"model": model, "alias": alias, "version": wanted.version})


@router.delete("/{model}/aliases/{alias}", status_code=204, responses=problems(404))
async def delete_alias(
    registry: RegistryOf, inference: InferenceOf, model: str, alias: str
) -> Response:
    """Removes an alias; the version it stood for stays."""
    await asyncio.to_thread(registry.delete_alias, model, alias)
    await inference.refresh()
    return Response(status_code=204)


@router.delete("/{model}/versions/{version}", status_code=204, responses=problems(404, 409))
async def delete_version(
    registry: RegistryOf, inference: InferenceOf, model: str, version: str
) -> Response:
    """Removes a version that no alias points to; its number is not used again."""
    await asyncio.to_thread(registry.delete_version, model, version)
    await inference.refresh()
    return Response(status_code=204)
