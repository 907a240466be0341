"""Datasets: upload, look at, remove."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from service.database import Dataset as DatasetRow
from service.envelope import body_chunks
from service.errors import InvalidError
from service.openapi import problems
from service.routes.wiring import After, DatasetsOf, JsonResponse, Limit, SettingsOf
from service.schemas import Dataset, Page

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in ("text/csv", "application/vnd.apache.parquet", "application/x-ndjson")
        }
        | {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": Dataset, "description": "The same bytes were uploaded before"},
        201: {"model": Dataset},
        **problems(400, 413, 422),
    },
    openapi_extra=_BODY,
)
async def create_dataset(
    request: Request,
    settings: SettingsOf,
    datasets: DatasetsOf,
    name: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
) -> JsonResponse:
    """Stores a CSV, Parquet or NDJSON file, and says what its columns hold."""
    media_type = request.headers.get("content-type", "")
    if media_type.lower().startswith("multipart/"):
        limited = Request(request.scope, _limited(request, settings.max_dataset_bytes))
        form = await _form_of(limited)
        try:
            file = _file_of(form)
            file_name = file.filename or ""
            dataset, is_new = await datasets.receive(
                _chunks_of(file),
                name or _printable(file_name) or "dataset",
                file.content_type or "",
                file_name,
            )
        finally:
            await form.close()
    else:
        chunks = body_chunks(request, settings.max_dataset_bytes)
        dataset, is_new = await datasets.receive(
            chunks, _printable(name or "") or "dataset", media_type, name or ""
        )
    status = 201 if is_new else 200
    location = {"Location": f"/v1/datasets/{dataset.id}"}
    return JsonResponse(_wire(dataset), status, location)


@router.get("", responses={200: {"model": Page[Dataset]}, **problems(404, 422)})
def list_datasets(datasets: DatasetsOf, after: After = None, limit: Limit = 20) -> JsonResponse:
    """All datasets, newest first."""
    found, has_more = datasets.page(after, limit)
    data = [_wire(dataset) for dataset in found]
    return JsonResponse({"object": "list", "data": data, "has_more": has_more})


@router.get("/{dataset}", responses={200: {"model": Dataset}, **problems(404)})
def get_dataset(datasets: DatasetsOf, dataset: str) -> JsonResponse:
    """A dataset with its columns."""
    return JsonResponse(_wire(datasets.get(dataset)))


@router.delete("/{dataset}", status_code=204, responses=problems(404, 409))
def delete_dataset(datasets: DatasetsOf, dataset: str) -> Response:
    """Removes a dataset, unless a job that waits or runs needs it."""
    datasets.delete(dataset)
    return Response(status_code=204)


async def _form_of(request: Request) -> FormData:
    """The parts of a multipart body, which are on disk and not in memory until it is closed."""
    try:
        return await request.form(max_files=1, max_fields=10)
    except (LookupError, UnicodeError):
        message = "the charset of the multipart body does not fit its bytes"
        raise InvalidError(message) from None


def _printable(name: str) -> str:
    return "".join(c for c in name if c.isprintable())[:200]


def _file_of(form: FormData) -> UploadFile:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        message = 'multipart needs a file in the field "file"'
        raise InvalidError(message, errors=[{"loc": ["file"], "msg": message}])
    return file


def _limited(request: Request, most_bytes: int) -> Any:
    """The request's body as an ASGI `receive` that raises beyond so many bytes."""
    chunks = body_chunks(request, most_bytes)

    async def receive() -> dict[str, Any]:
        async for chunk in chunks:
            return {"type": "http.request", "body": chunk, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def _chunks_of(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(1 << 20):
        yield chunk


def _wire(dataset: DatasetRow) -> dict[str, Any]:
    return {
        "id": dataset.id,
        "object": "dataset",
        "name": dataset.name,
        "format": dataset.format,
        "bytes": dataset.bytes,
        "sha256": dataset.sha256,
        "rows": dataset.rows,
        "columns": dataset.columns,
        "created_at": dataset.created_at,
    }
