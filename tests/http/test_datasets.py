"""Uploads."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest

from service.schemas import Dataset, Page

pytestmark = pytest.mark.anyio

CSV = b"age,city,y\n1,Bern,2.5\n,Oslo,3.5\n3,,4.5\n"


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"age": [1, 2], "y": [1.0, 2.0]}), sink)
    return sink.getvalue()


async def upload(
    client: httpx.AsyncClient, content: bytes, media_type: str | None = "text/csv", name: str = "t"
) -> httpx.Response:
    headers = {"content-type": media_type} if media_type else {}
    return await client.post(f"/v1/datasets?name={name}", content=content, headers=headers)


async def test_csv(client: httpx.AsyncClient) -> None:
    response = await upload(client, CSV, name="people")
    assert response.status_code == 201
    body = response.json()
    Dataset.model_validate(body)
    assert response.headers["location"] == f"/v1/datasets/{body['id']}"
    assert (body["name"], body["format"], body["rows"], body["bytes"]) == (
        "people", "csv", 3, len(CSV),
    )  # fmt: skip
    assert body["sha256"] == hashlib.sha256(CSV).hexdigest()
    age, city, _ = body["columns"]
    assert (age["type"], age["missing"], age["minimum"], age["maximum"]) == ("number", 1, 1.0, 3.0)
    assert (city["type"], city["distinct"], city["examples"]) == ("category", 2, ["Bern", "Oslo"])
    assert (await client.get(f"/v1/datasets/{body['id']}")).json() == body


@pytest.mark.parametrize(
    ("content", "media_type", "kind"),
    [
        (parquet(), "application/vnd.apache.parquet", "parquet"),
        (b'{"age": 1, "y": 2}\n{"age": 2, "y": 3}\n', "application/x-ndjson", "ndjson"),
        (parquet(), None, "parquet"),
        (b'{"age": 1, "y": 2}\n', None, "ndjson"),
        (CSV, None, "csv"),
        (CSV, "text/csv; charset=utf-8", "csv"),
        (CSV, "application/octet-stream", "csv"),
    ],
)
async def test_every_format_declared_or_not(
    client: httpx.AsyncClient, content: bytes, media_type: str | None, kind: str
) -> None:
    response = await upload(client, content, media_type)
    assert response.status_code == 201, response.text
    assert response.json()["format"] == kind


async def test_multipart(client: httpx.AsyncClient) -> None:
    files = {"file": ("people.csv", CSV, "text/csv")}
    response = await client.post("/v1/datasets", files=files)
    assert response.status_code == 201
    assert response.json()["name"] == "people.csv"
    assert response.json()["sha256"] == hashlib.sha256(CSV).hexdigest()


async def test_the_same_bytes_twice_are_one_dataset(client: httpx.AsyncClient) -> None:
    first = await upload(client, CSV)
    second = await upload(client, CSV, name="again")
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert len((await client.get("/v1/datasets")).json()["data"]) == 1


async def test_the_list_is_newest_first_and_paged(client: httpx.AsyncClient) -> None:
    ids = [(await upload(client, CSV + b"9,Ulm,%d\n" % i)).json()["id"] for i in range(3)]
    body = (await client.get("/v1/datasets?limit=2")).json()
    Page[Dataset].model_validate(body)
    assert [d["id"] for d in body["data"]] == [ids[2], ids[1]]
    assert body["has_more"] is True
    rest = (await client.get(f"/v1/datasets?after={ids[1]}")).json()
    assert [d["id"] for d in rest["data"]] == [ids[0]]


async def test_a_dataset_is_deleted_unless_a_job_needs_it(client: httpx.AsyncClient) -> None:
    dataset = (await upload(client, CSV)).json()["id"]
    job = {"model": "m", "dataset": dataset, "target": "y"}
    created = (await client.post("/v1/training_jobs", json=job)).json()
    conflict = await client.delete(f"/v1/datasets/{dataset}")
    assert conflict.status_code == 409
    assert created["id"] in conflict.json()["detail"]
    await client.post(f"/v1/training_jobs/{created['id']}:cancel")
    assert (await client.delete(f"/v1/datasets/{dataset}")).status_code == 204
    assert (await client.get(f"/v1/datasets/{dataset}")).status_code == 404
    resumed = await client.post(f"/v1/training_jobs/{created['id']}:resume")
    assert resumed.status_code == 409
    assert (await upload(client, CSV)).status_code == 201


async def test_nothing_is_left_of_a_refused_upload(client: httpx.AsyncClient, home) -> None:
    assert (await upload(client, b"a,b\n1,2\n3\n")).status_code == 422
    assert (await upload(client, b"")).status_code == 422
    assert not list((home / "partial").iterdir())
    assert not (home / "datasets").exists()


async def test_a_charset_of_multipart_changes_no_byte(client: httpx.AsyncClient) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        b"a,b\n1,2\n\r\n--x--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=x; charset=undefined"}
    response = await client.post("/v1/datasets", content=body, headers=headers)
    assert response.status_code == 201
    assert response.json()["sha256"] == hashlib.sha256(b"a,b\n1,2\n").hexdigest()


BOUNDARY = {"content-type": "multipart/form-data; boundary=x"}


def part(name: str, content: bytes, more: str = '; filename="a.csv"') -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_multipart_file_comes_through_whole_however_it_is_cut(
    client: httpx.AsyncClient, size: int
) -> None:
    content = CSV + b'7,"\r\n--",1\r\n8,--x,2\r\n'
    body = part("note", b"file", "") + part("file", content) + b"--x--\r\n"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    response = await client.post("/v1/datasets", content=pieces(), headers=BOUNDARY)
    assert response.status_code == 201, response.text
    assert response.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert response.json()["name"] == "a.csv"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (part("file", CSV), 400, "before its last boundary"),
        (part("file", CSV) + part("file", CSV) + b"--x--\r\n", 422, "two files"),
        (part("file", CSV, "") + b"--x--\r\n", 422, 'needs a file in the field "file"'),
        (part("n", b"", "") * 30 + b"--x--\r\n", 422, "more than 20 parts"),
        (part("file", CSV, "; a=" + "b" * 20_000) + b"--x--\r\n", 400, "header size"),
        (part("file", b"") + b"--x--\r\n", 422, "empty"),
    ],
)
async def test_multipart_that_is_not_one_file_is_refused(
    client: httpx.AsyncClient, home: Path, body: bytes, status: int, detail: str
) -> None:
    response = await client.post("/v1/datasets", content=body, headers=BOUNDARY)
    assert response.status_code == status
    assert detail in response.json()["detail"]
    assert not list((home / "partial").iterdir())


@pytest.mark.parametrize(
    ("settings", "status", "detail"),
    [
        ({"max_dataset_rows": 2}, 422, "2 rows allowed"),
        ({"max_dataset_columns": 2}, 422, "more than the 2 allowed"),
        ({"max_cell_bytes": 3}, 422, "'city' holds a text of 4 bytes in row 1"),
        ({"max_dataset_seconds": 1e-9}, 408, "takes longer than"),
    ],
)
async def test_limits_are_settings(
    serve: Callable, settings: dict, status: int, detail: str
) -> None:
    response = await upload((await serve(**settings)).client, CSV)
    assert response.status_code == status
    assert detail in response.json()["detail"]


async def test_what_a_job_takes_cannot_be_deleted_at_the_same_time(serve: Callable) -> None:
    """Whoever is first wins: a job without its data is never accepted."""
    app = await serve()
    for i in range(6):
        dataset = (await upload(app.client, CSV + b"9,Ulm,%d\n" % i)).json()["id"]
        job = {"model": "m", "dataset": dataset, "target": "y"}
        deleted, submitted = await asyncio.gather(
            app.client.delete(f"/v1/datasets/{dataset}"),
            app.client.post("/v1/training_jobs", json=job),
        )
        assert (deleted.status_code, submitted.status_code) in {(204, 404), (409, 202)}
