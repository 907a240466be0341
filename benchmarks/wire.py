"""Processor time of one request by wire format: 1,000 rows of 13 numbers, eval mode, the default
network, one thread; from the body's bytes to the network's inputs, and to the answer's bytes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import orjson
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from models.recipe import Recipe, finish, prepare
from models.sampling import make_plan
from models.table import Schema
from models.training import fit
from models.training_run import TrainingOptions
from service import answers
from service.computation import Instances, Numbers, Rows, evaluate
from service.envelope import parse_json
from service.loading import LoadedVersion
from service.open_inference.answers import Form
from service.open_inference.requests import Wanted, read_request
from service.open_inference.rows import TensorRows
from service.schemas import PredictRequest, parse

N_ROWS, N_FEATURES = 1_000, 13
REPEATS = 101


def run(_: argparse.Namespace) -> None:
    """Prints the time of each format, and how many times that of binary tensors it is."""
    torch.set_num_threads(1)
    loaded = _train()
    x = np.random.default_rng(1).normal(size=(N_ROWS, N_FEATURES)).astype("<f4")
    names = [feature.name for feature in loaded.artifact.schema.features]
    arrays = orjson.dumps({"instances": x.tolist()})
    objects = [dict(zip(names, row, strict=True)) for row in x.tolist()]
    flat, (binary, length) = _in_json(x), _in_bytes(x)
    formats: dict[str, tuple[Callable[[], Rows], Callable[[], bytes]]] = {
        ":predict, objects": _predict(loaded, orjson.dumps({"instances": objects})),
        ":predict, arrays": _predict(loaded, arrays),
        "infer, JSON tensors": _infer(loaded, flat, []),
        "infer, binary tensors": _infer(loaded, binary, [length]),
        "infer, raw body": _infer(loaded, x.tobytes(), ["0"]),
    }
    schema = loaded.artifact.schema
    expected = schema.encode(x.tolist()).inputs
    times = {}
    for name, (read, answer) in formats.items():
        np.testing.assert_array_equal(read().encode(schema).inputs, expected)
        times[name] = _milliseconds(_to_inputs(read, schema)), _milliseconds(answer)
    table = Table("format", "read", "times", "whole request", "times", title="Wire formats")
    least = times["infer, binary tensors"]
    for name, (reading, whole) in times.items():
        table.add_row(
            name,
            f"{reading:.2f} ms", f"{reading / least[0]:.1f}",
            f"{whole:.2f} ms", f"{whole / least[1]:.1f}",
        )  # fmt: skip
    Console(width=100).print(table)


def _to_inputs(read: Callable[[], Rows], schema: Schema) -> Callable[[], object]:
    return lambda: read().encode(schema)


def _train() -> LoadedVersion:
    """A network of the default size; what it predicts does not matter here."""
    rng = np.random.default_rng(0)
    columns = {f"f{i}": rng.normal(size=500) for i in range(N_FEATURES)}
    options = TrainingOptions(epochs=1)
    prepared = prepare(
        pa.table(columns | {"y": sum(columns.values())}), Recipe("y", training=options)
    )
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    artifact = finish(prepared, fitted, "2026-01-01T00:00:00Z", {})
    return LoadedVersion("wire", 1, artifact, make_plan(artifact.network, torch.device("cpu")))


def _predict(loaded: LoadedVersion, body: bytes) -> tuple[Callable[[], Rows], Callable[[], bytes]]:
    def read() -> Rows:
        numbers = Numbers.read(body)
        return numbers or Instances(parse(PredictRequest, parse_json(body)).instances)

    return read, lambda: orjson.dumps(answers.predicted(evaluate(loaded, read())))


def _infer(
    loaded: LoadedVersion, body: bytes, lengths: list[str]
) -> tuple[Callable[[], Rows], Callable[[], bytes]]:
    def read() -> tuple[Wanted, Rows]:
        wanted = read_request(body, lengths)
        return wanted, TensorRows(wanted.inputs)

    def answer() -> bytes:
        wanted, rows = read()
        rows.count(loaded.artifact.schema)
        return Form(wanted, ("output",), "id", None).predicted(evaluate(loaded, rows)).body

    return lambda: read()[1], answer


def _head(**more: object) -> dict[str, object]:
    shape = [N_ROWS, N_FEATURES]
    return {"name": "input", "shape": shape, "datatype": "FP32"} | more


def _in_json(x: np.ndarray) -> bytes:
    return orjson.dumps({"inputs": [_head(data=x.ravel().tolist())]})


def _in_bytes(x: np.ndarray) -> tuple[bytes, str]:
    parameters = {"binary_data_size": x.nbytes}
    head = json.dumps(
        {
            "inputs": [_head(parameters=parameters)],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return head + x.tobytes(), str(len(head))


def _milliseconds(function: Callable[[], object]) -> float:
    """Median processor time of one call: others may use this machine, too."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return 1e3 * median(times)
