"""From a table to an artifact: split, fit, noise, calibration, in this order.

Everything here follows from the table, the recipe and its seed, so that an interrupted run
can start again from the file and its last checkpoint and end in the same artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from models.artifact import Artifact
from models.calibration import LEAST_ROWS, calibrate
from models.errors import DataError, EncodeError, TrainingError
from models.mlp import MLP, DropoutKind, MLPConfig
from models.sampling import Plan, make_plan, predict, sample
from models.schema_inference import (
    encode_features,
    encode_target,
    infer_schema,
    infer_task,
    labelled_rows,
    records,
)
from models.scores import classification_errors, mixture_nll, regression_errors
from models.table import Schema, Task, softmax
from models.training import FitResult
from models.training_run import Split, TrainingOptions
from models.uncertainty import to_gaussians

Array = np.ndarray

LEAST_TRAINING_ROWS = 20
# More rows than these sharpen nothing: they are worth more in training.
MOST_CALIBRATION_ROWS = 10_000
MOST_VALIDATION_ROWS = 20_000
# Samples behind the calibration and the metrics, and the seed that names them.
N_SAMPLES, SEED = 100, 0


@dataclass(frozen=True)
class Recipe:
    """All choices of a training run. Fractions are of the rows whose target is known."""

    target: str
    task: Task | Literal["auto"] = "auto"
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    dropout: DropoutKind = "bernoulli"
    p: tuple[float, ...] | float = 0.1
    input_p: float = 0.0
    training: TrainingOptions = field(default_factory=TrainingOptions)
    validation_fraction: float = 0.1
    calibration_fraction: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """A table ready to fit: its schema, the network's shape, and three disjoint splits.

    `held_out` are the calibration rows as they stand in the table.
    """

    schema: Schema
    config: MLPConfig
    training: Split
    validation: Split
    calibration: Split
    held_out: pa.Table


def prepare(table: pa.Table, recipe: Recipe) -> Prepared:
    """Splits and encodes the table.

    Raises:
        DataError: the target or the columns cannot be used, or there are too few rows.
        ValueError: the recipe describes no network.
    """
    table = labelled_rows(table, recipe.target)
    task = infer_task(table, recipe.target) if recipe.task == "auto" else recipe.task
    strata = _strata(table, recipe.target) if task == "classification" else None
    training, validation, calibration = _split(table.num_rows, recipe, strata)
    schema = infer_schema(table, recipe.target, task, training)
    config = MLPConfig(
        in_features=schema.in_features,
        out_features=schema.target.out_features,
        hidden=recipe.hidden,
        activation=recipe.activation,
        dropout=recipe.dropout,
        p=recipe.p,
        input_p=recipe.input_p,
        head=task,
    )
    x = torch.from_numpy(encode_features(table, schema))
    y = torch.from_numpy(encode_target(table, schema))
    return Prepared(
        schema,
        config,
        training=Split(x[training], y[training]),
        validation=Split(x[validation], y[validation]),
        calibration=Split(x[calibration], y[calibration]),
        held_out=table.take(calibration),
    )


def finish(
    prepared: Prepared, fitted: FitResult, created_at: str, provenance: Mapping[str, Any]
) -> Artifact:
    """The artifact of a fitted network: its noise settled, calibrated and measured.

    The metrics are those of the calibration rows, which neither the weights nor the choice
    of the epoch have seen.

    Raises:
        TrainingError: an output of the network is not a finite number.
    """
    network, schema, split = fitted.network, prepared.schema, prepared.calibration
    if schema.target.task == "regression":
        _settle_noise(network, prepared.validation)
    plan = make_plan(network)
    drawn = _draw(plan, split.x)
    truth = _truth(schema, split.y.numpy())
    metrics = {
        "rows": {
            "training": len(prepared.training),
            "validation": len(prepared.validation),
            "calibration": len(split),
        },
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "eval_mode": _metrics(schema, predict(plan, split.x).double().numpy()[None], truth),
        "mc_mode": {"n_samples": N_SAMPLES} | _metrics(schema, drawn, truth),
    }
    calibration = calibrate(schema.target, drawn, truth)
    return Artifact(schema, network, calibration, created_at, metrics, dict(provenance))


def proper_score(artifact: Artifact, held_out: pa.Table) -> float | None:
    """Mean negative log-likelihood (nats) in MC mode of rows with known targets, so that two
    versions of the same task and labels can be compared on the same rows; None if these rows do
    not fit the artifact."""
    schema = artifact.schema
    if schema.target.name not in held_out.column_names:
        return None
    try:
        x = artifact.encode(records(held_out, schema))
        truth = encode_target(held_out, schema)
    except (DataError, EncodeError, LookupError, TypeError, ValueError, pa.ArrowException):
        return None
    raw = _draw(make_plan(artifact.network), x)
    return _metrics(schema, raw, _truth(schema, truth))["nll"]


def _strata(table: pa.Table, target: str) -> Array:
    _, strata = np.unique(
        np.array([str(value) for value in table.column(target).to_pylist()]), return_inverse=True
    )
    return strata


def _split(n_rows: int, recipe: Recipe, strata: Array | None) -> tuple[Array, Array, Array]:
    """Row numbers for training, validation and calibration; classes in equal shares."""
    n_calibration = max(LEAST_ROWS, round(recipe.calibration_fraction * n_rows))
    n_calibration = min(n_calibration, MOST_CALIBRATION_ROWS)
    n_validation = max(LEAST_ROWS // 2, round(recipe.validation_fraction * n_rows))
    n_validation = min(n_validation, MOST_VALIDATION_ROWS)
    n_training = n_rows - n_calibration - n_validation
    if n_training < LEAST_TRAINING_ROWS:
        needed = LEAST_TRAINING_ROWS + LEAST_ROWS + LEAST_ROWS // 2
        raise DataError(
            "too_few_rows",
            f"{n_rows} rows with a known {recipe.target!r} leave {max(0, n_training)} for training "
            f"after validation and calibration: at least {needed} rows are needed, and fractions "
            f"that leave {LEAST_TRAINING_ROWS}",
            "dataset",
        )
    rng = np.random.default_rng(recipe.seed)
    place = rng.permutation(n_rows).astype(np.float64)
    if strata is not None:
        # Each class is spread evenly over [0, 1), its last row stays with the training rows.
        for label in np.unique(strata):
            rows = np.flatnonzero(strata == label)
            rows = rows[np.argsort(place[rows])]
            place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
            place[rows[-1]] = 2.0
    order = np.argsort(place, kind="stable")
    calibration, validation, training = np.split(
        order, [n_calibration, n_calibration + n_validation]
    )
    return np.sort(training), np.sort(validation), np.sort(calibration)


@torch.no_grad()
def _settle_noise(network: MLP, validation: Split) -> None:
    """Scales the noise variance to the validation rows, or replaces it by a constant one.

    In training the residuals hold the masks' variance too; here it is subtracted. The
    better of the two by the likelihood of the predictive mean and variance is written into
    the last layer's weights, so that an artifact carries nothing but its network.
    """
    raw = torch.from_numpy(_draw(make_plan(network), validation.x))
    epistemic, noise = raw[..., 0].var(dim=0), raw[..., 1].exp().mean(dim=0)
    squared = (validation.y - raw[..., 0].mean(dim=0)).square()
    scales = torch.logspace(-4, 1, 251, dtype=torch.float64)[:, None]
    losses = []
    for shape in (noise, torch.ones_like(noise)):
        variance = epistemic + scales * shape
        losses.append((variance.log() + squared / variance).mean(dim=1))
    scaled, constant = (loss.min().item() for loss in losses)
    last = network.linears[-1]
    assert isinstance(last, torch.nn.Linear)
    if scaled <= constant:
        last.bias[1] += scales[losses[0].argmin()].log().item()
    else:
        last.weight[1] = 0.0
        last.bias[1] = scales[losses[1].argmin()].log().item()


def _draw(plan: Plan, x: torch.Tensor) -> Array:
    raw = sample(plan, x, seed=SEED, n_samples=N_SAMPLES).double().numpy()
    if not np.isfinite(raw).all():
        raise TrainingError(
            "diverged", "the trained network's outputs are not finite: try a lower learning_rate"
        )
    return raw


def _truth(schema: Schema, encoded: Array) -> Array:
    """Class positions, or values in the target's units."""
    if schema.target.task == "classification":
        return encoded
    return encoded.astype(np.float64) * schema.target.std + schema.target.mean


def _metrics(schema: Schema, raw: Array, truth: Array) -> dict[str, float]:
    """Scores of the equal mixture of raw outputs (T, N, K)."""
    if schema.target.task == "classification":
        return classification_errors(truth, softmax(raw).mean(axis=0))
    means, variances = to_gaussians(schema.target, raw)
    nll = mixture_nll(truth, means, variances)
    return regression_errors(truth, means.mean(axis=0)) | {"nll": nll}
