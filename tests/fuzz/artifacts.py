"""Zips to artifacts: what is taken answers with finite numbers, or says which row it cannot."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris
import numpy as np
import safetensors.numpy

from models import load_artifact
from models.artifact import FILES, SUMS, save_artifact
from models.draw import Draw
from models.errors import ArtifactError, DropcastError
from models.sampling import make_plan
from models.table import Target
from service import answers
from service.artifact_files import unpack
from service.computation import Instances, draw_samples, evaluate
from service.errors import ServiceError
from service.loading import LoadedVersion
from tests.unit.test_artifact import ROWS, make, places

MOST_BYTES = 2**20
# What stands in a manifest where something else is due.
ODD = [
    None, True, 0, 1, -1, 2, 7, 0.5, -0.5, 1e-320, 1e30, 1e38, 1e300, 10**400, 2**63, float("nan"),
    float("inf"), "", "x", "std", "raps", "\0", "\ud800", [], [[]], ["x"], [None], {}, {"x": "x"},
]  # fmt: skip
DRAWS = [Draw(n_samples=5, estimator=name) for name in ("mc", "stratified", "analytic")]


def artifacts() -> Callable[[bytes], None]:
    """The input chooses what is damaged: the zip, the bytes of one of its files, values of the
    manifest, or tensors; what is inside then has the checksum that fits."""
    folder = Path(tempfile.mkdtemp())
    # One of each task.
    whole = []
    for i, target in enumerate((None, Target("c", labels=("a", "b", "c")))):
        save_artifact(make(target), folder / str(i))
        whole.append({name: (folder / str(i) / name).read_bytes() for name in FILES})
    path = folder / "damaged.zip"

    def read(content: bytes) -> None:
        data = atheris.FuzzedDataProvider(content)
        contents = dict(data.PickValueInList(whole))
        kind = data.ConsumeIntInRange(0, 7)
        if kind == 0:
            path.write_bytes(data.ConsumeBytes(data.remaining_bytes()))
        else:
            damage = (_bytes, _tensors, _manifest)[min(kind // 2, 2)]
            damage(data, contents)
            path.write_bytes(_zip(data, contents))
        _serve(path, folder / "unpacked")

    return read


def _bytes(data: atheris.FuzzedDataProvider, contents: dict[str, bytes]) -> None:
    name = data.PickValueInList(list(FILES))
    at = data.ConsumeIntInRange(0, len(contents[name]))
    length = data.ConsumeIntInRange(0, 255)
    part = data.ConsumeBytes(data.remaining_bytes())
    contents[name] = contents[name][:at] + part + contents[name][at + length :]


def _tensors(data: atheris.FuzzedDataProvider, contents: dict[str, bytes]) -> None:
    name = data.PickValueInList(list(FILES[1:]))
    tensors = dict(safetensors.numpy.load(contents[name]))
    np.seterr(all="ignore")
    for _ in range(data.ConsumeIntInRange(1, 3)):
        key = data.PickValueInList([*tensors, "x"])
        old = tensors.pop(key, np.zeros(3))
        action = data.ConsumeIntInRange(0, 4)
        if action == 0:
            continue
        dtypes = ["float32", "float32", "float64", "float16", "int64", "bool"]
        new = old.astype(data.PickValueInList(dtypes))
        if action == 1:
            shape = [data.ConsumeIntInRange(0, 9) for _ in range(data.ConsumeIntInRange(0, 3))]
            new = np.resize(new, shape)
        elif action == 2 and new.size:
            flat = new.reshape(-1).astype(np.float64)
            flat[data.ConsumeIntInRange(0, new.size - 1)] = data.ConsumeFloat() or np.nan
            new = flat.reshape(new.shape).astype(new.dtype)
        elif action == 3:
            new = (new * data.PickValueInList([0.0, 1e-40, -1.0, 1e20, 3e38])).astype(new.dtype)
        tensors[key] = new
    contents[name] = safetensors.numpy.save(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    )


def _manifest(data: atheris.FuzzedDataProvider, contents: dict[str, bytes]) -> None:
    manifest = json.loads(contents["manifest.json"])
    for _ in range(data.ConsumeIntInRange(1, 3)):
        *path, key = data.PickValueInList(list(places(manifest)))
        parent = manifest
        for step in path:
            parent = parent[step]
        action = data.ConsumeIntInRange(0, 5)
        if action == 0:
            del parent[key]
        elif action == 1:
            count = data.ConsumeIntInRange(0, 3)
            parent[key] = [copy.deepcopy(parent[key]) for _ in range(count)]
        elif action == 2 and isinstance(parent, dict):
            name = data.PickValueInList([*parent, "x", "1", "0"])
            parent[name] = copy.deepcopy(parent[key])
        elif action == 3:
            parent[key] = data.ConsumeFloat() if data.ConsumeBool() else data.ConsumeInt(9)
        else:
            # A copy: what comes next may change it.
            parent[key] = copy.deepcopy(data.PickValueInList(ODD))
    # As a stranger writes it: NaN, and names twice, included.
    contents["manifest.json"] = json.dumps(manifest).encode()


def _zip(data: atheris.FuzzedDataProvider, contents: dict[str, bytes]) -> bytes:
    sums = "".join(f"{hashlib.sha256(contents[n]).hexdigest()}  {n}\n" for n in FILES)
    method = data.PickValueInList([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in (*contents.items(), (SUMS, sums.encode())):
            archive.writestr(name, content)
    return file.getvalue()


def _serve(path: Path, folder: Path) -> None:
    """The way of an upload, and then of a request; what a folder refuses a zip refuses, too."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        card = unpack(path, folder, MOST_BYTES)
    except ServiceError:
        with contextlib.suppress(ArtifactError):
            load_artifact(path)
        return
    artifact = load_artifact(folder)
    assert load_artifact(path).sha256 == artifact.sha256 == card["artifact_sha256"]
    loaded = LoadedVersion("m", 1, artifact, make_plan(artifact.network))
    for answer in _ask(loaded):
        json.dumps(answer, allow_nan=False)


def _ask(loaded: LoadedVersion) -> Iterator[Any]:
    names = [feature.name for feature in loaded.artifact.schema.features]
    rows = Instances([{name: row.get(name, 1) for name in names} for row in ROWS])
    with contextlib.suppress(DropcastError):
        yield answers.predicted(evaluate(loaded, rows))
    for draw in DRAWS:
        with contextlib.suppress(DropcastError):
            yield answers.uncertain(draw_samples(loaded, rows, draw, 0.9))
