"""A disk that is full, and a store that cannot be written: clear errors, nothing half-visible, and
no restart afterwards."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.http.conftest import STRENGTH_ROW

pytestmark = pytest.mark.anyio

PATH = "/v1/models/strength/versions/1/artifact"
ROWS = {"instances": [STRENGTH_ROW]}


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """A disk of 4 MB for partial files, datasets and models; the database lies elsewhere."""
    small = home.parent / "disk"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    shutil.copytree(home / "models" / "strength", small / "models" / "strength")
    try:
        yield small
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def fill(file: Path) -> None:
    """Writes until nothing more can be."""
    with file.open("wb", buffering=0) as target, contextlib.suppress(OSError):
        while target.write(bytes(4096)):
            pass


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


async def assert_refused(client: httpx.AsyncClient, artifact: bytes, reason: str) -> None:
    """Uploads are 503, and nothing of them is seen; what was there goes on answering."""
    data = b"a,y\n" + b"1,2\n" * 100_000
    for path, content in (("/v1/datasets", data), ("/v1/models/copy/versions", artifact)):
        response = await client.post(path, content=content)
        assert response.status_code == 503, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["retry-after"]) > 0
        assert reason in response.json()["detail"]
    assert (await client.get("/v1/datasets")).json()["data"] == []
    assert (await client.get("/v1/models/copy")).status_code == 404
    assert (await client.post("/v1/models/strength:predict", json=ROWS)).status_code == 200


async def assert_taken(client: httpx.AsyncClient, artifact: bytes) -> None:
    assert (await client.post("/v1/datasets", content=b"a,y\n1,2\n")).status_code == 201
    response = await client.post("/v1/models/copy/versions", content=artifact)
    assert response.status_code == 201, response.text
    assert (await client.post("/v1/models/copy:predict", json=ROWS)).status_code == 200


async def test_a_full_disk(serve: Callable, home: Path, disk: Path) -> None:
    client = (await serve(home=disk, database_url=f"sqlite:///{home / 'dropcast.db'}")).client
    whole = (await (await serve()).client.get(PATH)).content
    filler = disk / "filler"
    fill(filler)
    await assert_refused(client, whole, "the disk is full")
    assert not list((disk / "partial").iterdir())
    filler.unlink()
    await assert_taken(client, whole)


async def test_a_store_that_cannot_be_written(serve: Callable, home: Path, disk: Path) -> None:
    client = (await serve(home=disk, database_url=f"sqlite:///{home / 'dropcast.db'}")).client
    whole = (await (await serve()).client.get(PATH)).content
    remount(disk, "ro")
    await assert_refused(client, whole, "read-only")
    remount(disk, "rw")
    await assert_taken(client, whole)
