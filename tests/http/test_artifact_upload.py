"""Artifacts that come from elsewhere, good and bad."""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.numpy

from service.schemas import Card
from tests.http.conftest import STRENGTH_ROW

pytestmark = pytest.mark.anyio

PATH = "/v1/models/strength/versions/1/artifact"


async def exported(client: httpx.AsyncClient, path: str = PATH) -> bytes:
    return (await client.get(path)).content


async def upload(
    client: httpx.AsyncClient, content: bytes, model: str = "copy", promote: str = "if_first"
) -> httpx.Response:
    return await client.post(f"/v1/models/{model}/versions?promote={promote}", content=content)


async def predictions(client: httpx.AsyncClient, address: str) -> list[object]:
    rows = {"instances": [STRENGTH_ROW, {"age": 3, "water": None, "site": "east"}]}
    answers = [
        (await client.post(f"/v1/models/{address}:{verb}", json=rows)).json()["predictions"]
        for verb in ("predict", "uncertainty")
    ]
    assert len(answers[0]) == 2
    return answers


async def test_a_model_trained_here_serves_there_with_the_same_bits(
    client: httpx.AsyncClient,
) -> None:
    response = await upload(client, await exported(client))
    assert response.status_code == 201, response.text
    card = response.json()
    Card.model_validate(card)
    assert response.headers["location"] == "/v1/models/copy/versions/1"
    original = (await client.get("/v1/models/strength/versions/1")).json()
    assert card == original | {"model": "copy"}
    assert await predictions(client, "copy") == await predictions(client, "strength/versions/1")
    assert await exported(client, PATH.replace("strength", "copy")) == await exported(client)


@pytest.mark.parametrize(("promote", "production"), [("if_first", 1), ("never", 1), ("always", 2)])
async def test_only_the_first_goes_into_production_unasked(
    client: httpx.AsyncClient, promote: str, production: int
) -> None:
    content = await exported(client)
    await upload(client, content)
    second = await upload(client, content, promote=promote)
    assert second.json()["version"] == 2
    model = (await client.get("/v1/models/copy")).json()
    assert model["aliases"] == {"production": production}


async def test_numbers_are_never_used_again(client: httpx.AsyncClient) -> None:
    """Not that of the newest, nor those of a model that is gone."""
    content = await exported(client)
    for _ in range(2):
        await upload(client, content)
    assert (await client.delete("/v1/models/copy/versions/2")).status_code == 204
    assert (await upload(client, content)).json()["version"] == 3
    assert (await client.delete("/v1/models/copy/versions/3")).status_code == 204
    assert (await client.delete("/v1/models/copy/versions/1")).status_code == 409
    assert (await client.delete("/v1/models/copy/aliases/production")).status_code == 204
    assert (await client.delete("/v1/models/copy/aliases/production")).status_code == 404
    gone = await client.post("/v1/models/copy:predict", json={"instances": [STRENGTH_ROW]})
    assert gone.status_code == 404
    assert "no alias 'production'" in gone.json()["detail"]
    assert (await client.delete("/v1/models/copy/versions/1")).status_code == 204
    assert (await client.get("/v1/models/copy")).status_code == 404
    assert (await upload(client, content)).json()["version"] == 4
    assert (await client.get("/v1/models/copy")).json()["aliases"] == {"production": 4}


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes], sums: bool = True) -> bytes:
    """A zip of these, with checksums that fit."""
    if sums:
        names = [line.split("  ")[1] for line in parts["SHA256SUMS"].decode().splitlines()]
        lines = [f"{hashlib.sha256(parts[name]).hexdigest()}  {name}\n" for name in names]
        parts = parts | {"SHA256SUMS": "".join(lines).encode()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def with_manifest(change: Callable[[dict], object]) -> Callable[[dict[str, bytes]], bytes]:
    def make(parts: dict[str, bytes]) -> bytes:
        manifest = json.loads(parts["manifest.json"])
        change(manifest)
        return zipped(parts | {"manifest.json": json.dumps(manifest).encode()})

    return make


def with_weights(
    change: Callable[[dict[str, np.ndarray]], object], file: str = "weights.safetensors"
) -> Callable[[dict[str, bytes]], bytes]:
    def make(parts: dict[str, bytes]) -> bytes:
        weights = safetensors.numpy.load(parts[file])
        change(weights)
        return zipped(parts | {file: safetensors.numpy.save(weights)})

    return make


def poison(weights: dict[str, np.ndarray]) -> None:
    next(iter(weights.values())).flat[0] = np.nan


def reshape(weights: dict[str, np.ndarray]) -> None:
    name = next(name for name, value in weights.items() if value.ndim == 2)
    weights[name] = weights[name].T.copy()


def add_escape(parts: dict[str, bytes]) -> bytes:
    return zipped(parts | {"../../escaped": b"x"})


def rename_to_escape(parts: dict[str, bytes]) -> bytes:
    content = dict(parts)
    content["../weights.safetensors"] = content.pop("weights.safetensors")
    return zipped(content, sums=False)


def add_link(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if name == "weights.safetensors":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                content = b"/etc/passwd"  # noqa: PLW2901
            archive.writestr(info, content)
    return file.getvalue()


def twice(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO(zipped(parts))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("manifest.json", b"{}")
    return file.getvalue()


def bomb(parts: dict[str, bytes]) -> bytes:
    return zipped(parts | {"weights.safetensors": bytes(3_000_000)})


@pytest.mark.parametrize(
    ("make", "status", "detail"),
    [
        (lambda _: b"", 422, "not a readable zip"),
        (lambda _: b"PK\x03\x04 and then nothing", 422, "not a readable zip"),
        (lambda parts: zipped(parts)[:-40], 422, "not a readable zip"),
        (lambda parts: zipped({"a": b"b"}, sums=False), 422, "are due"),
        (add_escape, 422, "escaped"),
        (rename_to_escape, 422, "'../weights.safetensors'"),
        (add_link, 422, "weights.safetensors in the artifact is no plain file"),
        (twice, 422, "are due"),
        (bomb, 413, "weights.safetensors has more than"),
        (
            lambda parts: zipped(parts | {"weights.safetensors": b"x"}, sums=False),
            422,
            "does not match its checksum",
        ),
        (lambda parts: zipped(parts | {"manifest.json": b"[]"}), 422, "cannot be served"),
        (with_weights(poison), 422, "not a finite"),
        (with_weights(reshape), 422, "size mismatch"),
        (with_weights(lambda w: w.popitem()), 422, "Missing key"),
        (with_weights(lambda w: w.clear(), "calibration.safetensors"), 422, "cannot be served"),
        (with_manifest(lambda m: m["network"].update(hidden=[10**9, 10**9])), 422, "size mismatch"),
        (with_manifest(lambda m: m["network"].update(in_features=7)), 422, "differ in size"),
        (with_manifest(lambda m: m["schema"]["target"].update(std="x")), 422, "wrong type"),
        (with_manifest(lambda m: m.update(report=5)), 422, "cannot be served"),
        (with_manifest(lambda m: m.update(metrics={"x": float("nan")})), 422, "what no answer"),
        (with_manifest(lambda m: m.update(metrics={"x": 2**70})), 422, "what no answer"),
        (with_manifest(lambda m: m.update(metrics={"x": "\0"})), 422, "NUL"),
        (with_manifest(lambda m: m.update(metrics={"x": "\ud800"})), 422, "what no answer"),
    ],
)  # fmt: skip
async def test_what_is_no_artifact_is_refused_and_leaves_nothing(
    serve: Callable, home: Path, make: Callable[[dict[str, bytes]], bytes], status: int, detail: str
) -> None:
    client = (await serve(max_artifact_bytes=1_000_000)).client
    response = await upload(client, make(parts_of(await exported(client))))
    assert response.status_code == status, response.text
    assert detail in response.json()["detail"]
    assert str(home) not in response.text
    assert (await client.get("/v1/models/copy")).status_code == 404
    assert not list((home / "partial").iterdir())
    assert not (home / "models" / "copy").exists()
    assert not list(home.parent.rglob("escaped"))


async def test_names_and_sizes_are_checked(serve: Callable) -> None:
    client = (await serve(max_artifact_bytes=1024)).client
    content = await exported(client)
    assert (await upload(client, content)).status_code == 413
    for name in ("a%20b", ".hidden", "x" * 65, "a%2Fb"):
        response = await client.post(f"/v1/models/{name}/versions", content=content)
        assert response.status_code in (404, 422)
    unknown = await upload(client, content, promote="perhaps")
    assert unknown.status_code == 422
