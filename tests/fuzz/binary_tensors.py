"""Coverage-guided fuzzing of what reads the Open Inference Protocol's bodies.

    python -m venv .venv-fuzz && .venv-fuzz/bin/pip install -c constraints.txt -e . atheris
    .venv-fuzz/bin/python -m tests.fuzz.binary_tensors -max_total_time=600 -rss_limit_mb=2048

Half of the inputs are bodies as they are; the other half are built from parts that fit, with lies
about sizes, shapes and types, so that the search gets past the JSON. A body is answered with
finite inputs for as many rows as it can hold, or with one of the service's errors; all else ends
the run.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zlib

import atheris
import numpy as np

from models.errors import DropcastError
from models.features import CategoryFeature, NumberFeature
from models.table import Schema, Target

with atheris.instrument_imports(include=["service.open_inference", "service.encodings"]):
    from service.encodings import inflate
    from service.errors import ServiceError
    from service.open_inference.answers import check_outputs
    from service.open_inference.requests import read_request
    from service.open_inference.rows import TensorRows

MOST_BYTES = 2**20
SCHEMA = Schema(
    (
        NumberFeature("age", 40.0, 10.0, 0.0, 90.0),
        NumberFeature("water", 180.0, 30.0, 100.0, 300.0, fill=170.0),
        CategoryFeature("site", ("north", "south"), rare=("west",), has_missing=True),
        CategoryFeature("is_new", ("false", "true")),
    ),
    Target("strength", mean=30.0, std=5.0),
    {"row_id": "an identifier"},
)
NAMES = ["age", "water", "site", "is_new", "input", "row_id", "strength", "x"]
DATATYPES = [
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16",
    "FP32", "FP64", "BYTES",
]  # fmt: skip
WIDTHS = dict(zip(DATATYPES, (1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0), strict=True))


LIKELY = {
    "age": ["FP32", "INT16"],
    "water": ["FP64", "FP16", "UINT64"],
    "site": ["BYTES"],
    "is_new": ["BOOL", "BYTES", "INT8"],
}


def build(data: atheris.FuzzedDataProvider) -> tuple[bytes, list[str]]:
    """A body of tensors that mostly fit, and its header."""
    inputs, parts = [], []
    n_rows = data.ConsumeIntInRange(0, 5)
    # One for each feature, or whatever comes.
    names = NAMES[:4] if data.ConsumeProbability() < 0.6 else [None] * data.ConsumeIntInRange(0, 5)
    for due in names:
        name = due or data.PickValueInList(NAMES)
        datatype = data.PickValueInList(DATATYPES if due is None else LIKELY[due])
        shape = [n_rows, 4] if name == "input" else [n_rows]
        if data.ConsumeProbability() < 0.2:
            shape = [data.ConsumeInt(8) for _ in range(data.ConsumeIntInRange(0, 3))]
        count = n_rows * (4 if name == "input" else 1)
        given = {"name": name, "shape": shape, "datatype": datatype, "parameters": {}}
        if data.ConsumeBool():
            part = _part(data, datatype, count)
            lie = data.ConsumeProbability() < 0.1
            given["parameters"]["binary_data_size"] = data.ConsumeInt(8) if lie else len(part)
            parts.append(part)
        else:
            given["data"] = [_cell(data, datatype) for _ in range(count)]
        if data.ConsumeProbability() < 0.1:
            given["parameters"]["content_type"] = "pd_json"
        if data.ConsumeProbability() < 0.05:
            given |= data.PickValueInList([{"data": []}, {"parameters": None}, {"shape": None}])
        inputs.append(given)
    request = {"inputs": inputs, "parameters": _parameters(data), "outputs": _outputs(data)}
    head = json.dumps(request).encode()
    length = data.ConsumeInt(4) if data.ConsumeProbability() < 0.05 else len(head)
    return b"".join([head, *parts]), [str(length)]


def _part(data: atheris.FuzzedDataProvider, datatype: str, count: int) -> bytes:
    if datatype != "BYTES":
        return data.ConsumeBytes(count * WIDTHS[datatype])
    texts = [data.ConsumeBytes(data.ConsumeIntInRange(0, 6)) for _ in range(count)]
    lie = data.ConsumeProbability() < 0.1
    lengths = [data.ConsumeUInt(4) if lie else len(text) for text in texts]
    return b"".join(struct.pack("<I", n) + text for n, text in zip(lengths, texts, strict=True))


def _cell(data: atheris.FuzzedDataProvider, datatype: str = "") -> object:
    fitting = {"BYTES": 2, "BOOL": 4}.get(datatype, int(datatype.startswith("F")))
    kind = fitting if data.ConsumeProbability() < 0.8 else data.ConsumeIntInRange(0, 5)
    if kind == 0:
        return 10**400 if data.ConsumeProbability() < 0.01 else data.ConsumeInt(9)
    if kind == 1:
        return data.ConsumeFloat()
    if kind == 2:
        return data.PickValueInList(["north", "west", "true", "", '"south"', "null"])
    return [None, True, [1.0]][kind - 3]


VALUES = {
    "mode": ["eval", "mc_dropout", "mc", None],
    "n_samples": [2, 1, 10_000, "2", True],
    "seed": [0, None, -1, 2**63],
    "quantiles": ["0.1, 0.9", "", "0.5", "x", "nan", "0.5," * 200, [0.5]],
    "estimator": ["mc", "analytic", "x"],
    "binary_data_output": [True, None, 1],
    "sed": [1],
    "content_type": ["np"],
}


def _parameters(data: atheris.FuzzedDataProvider) -> dict[str, object]:
    count = data.ConsumeIntInRange(0, 3) if data.ConsumeProbability() < 0.5 else 0
    names = [data.PickValueInList(list(VALUES)) for _ in range(count)]
    return {name: data.PickValueInList(VALUES[name]) for name in names}


def _outputs(data: atheris.FuzzedDataProvider) -> list[dict[str, object]]:
    names = ["output", "label", "mean", "std", "quantiles", "samples", "entropy", "x"]
    own = [None, {}, {"binary_data": True}, {"binary_data": 1}, {"classification": 1}]
    return [
        {"name": data.PickValueInList(names), "parameters": data.PickValueInList(own)}
        for _ in range(data.ConsumeIntInRange(0, 3))
    ]


def check(body: bytes, header_lengths: list[str]) -> None:
    try:
        wanted = read_request(body, header_lengths)
        check_outputs(wanted, "regression", is_stochastic=True)
        rows = TensorRows(wanted.inputs)
        n_rows = rows.count(SCHEMA)
        if n_rows > 10_000:
            return
        inputs = rows.encode(SCHEMA).inputs
    except (ServiceError, DropcastError):
        return
    assert inputs.shape == (n_rows, SCHEMA.in_features)
    assert n_rows <= len(body)
    assert np.isfinite(inputs).all()


def run_one(content: bytes) -> None:
    data = atheris.FuzzedDataProvider(content)
    kind = data.ConsumeIntInRange(0, 9)
    if kind < 5:
        check(*build(data))
    elif kind < 8:
        lengths = [str(data.ConsumeIntInRange(0, 400))] if data.ConsumeBool() else []
        check(data.ConsumeBytes(data.remaining_bytes()), lengths)
    else:
        encoding = data.PickValueInList(["gzip", "deflate", "br", "identity", " GZIP"])
        rest = data.ConsumeBytes(data.remaining_bytes())
        whole = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)
        try:
            assert len(inflate(whole(rest) if kind == 8 else rest, encoding, 1000)) <= 1000
        except ServiceError:
            return


if __name__ == "__main__":
    atheris.Setup(sys.argv, run_one)
    atheris.Fuzz()
