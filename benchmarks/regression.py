"""The model that speed is measured on: a regression of 13 numbers, 13-256-256-1, p = 0.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import safetensors.torch

from models import MLP, Artifact, save_artifact
from models.recipe import Recipe, finish, prepare
from models.training import fit
from models.training_run import TrainingOptions
from service.database import Database
from service.registry import Registry
from service.settings import Settings

NAME = "regression"
N_FEATURES = 13
N_ROWS = 2_000


def train() -> Artifact:
    """A network that has learned something that is not linear, in a few seconds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_ROWS, N_FEATURES))
    y = 10 * np.sin(x[:, 0] * x[:, 1]) + 5 * x[:, 2] ** 2 + x[:, 3:].sum(axis=1)
    columns = {f"f{i}": x[:, i] for i in range(N_FEATURES)}
    table = pa.table(columns | {"y": y + rng.normal(size=N_ROWS)})
    options = TrainingOptions(epochs=40, batch_size=128)
    prepared = prepare(table, Recipe("y", training=options, calibration="split"))
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    return finish(prepared, fitted, "2026-01-01T00:00:00Z", {})


def install(artifact: Artifact, home: Path) -> None:
    """Makes it the production version of `NAME` in that home."""
    settings = Settings(home=home)
    database = Database(settings.database)
    database.migrate()
    registry = Registry(database, settings.home, settings.storage)
    staged = registry.scratch()
    sha256 = save_artifact(artifact, staged)
    card = artifact.card() | {"artifact_sha256": sha256}
    registry.add_artifact(staged, NAME, card, promote="always")
    database.close()


def write_weights(network: MLP, file: Path) -> None:
    """The network as others would have it: a safetensors file of `layer.weight` and
    `layer.bias`, its one output the mean."""
    last = len(network.linears) - 1
    tensors = {}
    for i, linear in enumerate(network.linears):
        n_outputs = 1 if i == last else linear.out_features
        tensors[f"{i}.weight"] = linear.weight.detach()[:n_outputs].contiguous()
        tensors[f"{i}.bias"] = linear.bias.detach()[:n_outputs].contiguous()
    safetensors.torch.save_file(tensors, file)


def make_rows(n_rows: int, seed: int = 1) -> np.ndarray:
    """Rows to ask for, float32 as the binary formats have them."""
    rows = np.random.default_rng(seed).normal(size=(n_rows, N_FEATURES))
    return rows.clip(-2.5, 2.5).astype(np.float32)


def in_json(rows: np.ndarray, **more: object) -> bytes:
    """The body of a request for these rows."""
    return orjson.dumps({"instances": rows.tolist(), **more})
