"""Datasets: upload, look at, remove."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.datasets import Upload
from service.envelope import body_chunks
from service.multipart import MultipartFile
from service.openapi import problems
from service.routes.wiring import After, DatasetsOf, JsonResponse, Limit, SettingsOf
from service.schemas import Dataset, Page
from service.tables import Dataset as DatasetRow

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string"},
                "example": "celsius,weather,ices\n24,sun,215\n19,clouds,120\n27,sun,260\n",
            },
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"celsius": 24, "ices": 215}\n{"celsius": 19, "ices": 120}\n',
            },
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": Dataset, "description": "The same bytes were uploaded before"},
        201: {"model": Dataset},
        **problems(400, 408, 413, 422, 503),
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
    body = body_chunks(request, settings.max_dataset_bytes)
    upload: Upload
    if media_type.lower().startswith("multipart/"):
        upload = MultipartFile(media_type, body, "file")
    else:
        upload = _RawFile(body, media_type, name or "")
    dataset, is_new = await datasets.receive(upload, name)
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


class _RawFile:
    """A body that is the file."""

    def __init__(self, body: AsyncIterator[bytes], media_type: str, file_name: str) -> None:
        self._body = body
        self.media_type = media_type
        self.file_name = file_name

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body


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
