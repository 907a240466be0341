"""From a table to an artifact: split, fit, settle, calibrate, in this order.

Everything here follows from the table, the recipe and its seed, so that an interrupted run
can start again from the file and its last checkpoint and end in the same artifact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from models.artifact import Artifact
from models.calibration import LEAST_ROWS, calibrate
from models.errors import DataError
from models.evidence import excerpt_rows, gather
from models.held_out import N_SAMPLES, hold_out
from models.interval_choice import choose_scores
from models.mlp import DropoutKind, MLPConfig
from models.report import analytic_gaps, measure, sampling_curve, weight_scaling
from models.sampling import make_plan
from models.schema_inference import (
    encode_features,
    encode_target,
    infer_schema,
    infer_task,
    labelled_rows,
)
from models.settling import settle
from models.table import Schema, Task
from models.training import FitResult
from models.training_run import Split, TrainingOptions

Array = np.ndarray

LEAST_TRAINING_ROWS = 20
# More rows than these sharpen nothing: they are worth more in training.
MOST_CALIBRATION_ROWS = 10_000
MOST_VALIDATION_ROWS = 20_000
MOST_FOLDS = 10
DEFAULT_P = 0.1


@dataclass(frozen=True)
class Recipe:
    """All choices of a training run. Fractions are of the rows whose target is known; p "auto"
    is one for `models.search` to choose, or for Concrete dropout to learn."""

    target: str
    task: Task | Literal["auto"] = "auto"
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    dropout: DropoutKind = "bernoulli"
    p: tuple[float, ...] | float | Literal["auto"] = DEFAULT_P
    input_p: float = 0.0
    training: TrainingOptions = field(default_factory=TrainingOptions)
    validation_fraction: float = 0.1
    calibration_fraction: float = 0.15
    calibration: Literal["auto", "split", "cross"] = "auto"
    keep_excerpt: bool = True
    seed: int = 0

    @property
    def is_searched(self) -> bool:
        """Whether p is to be found before the fit."""
        return self.p == "auto" and self.dropout != "concrete"


@dataclass(frozen=True)
class Prepared:
    """A table ready to fit: its schema, the network's shape, and three disjoint splits.

    `held_out` are the calibration rows as they stand in the table, `excerpt` some of the
    training rows, or nothing if none are to be kept.
    """

    schema: Schema
    config: MLPConfig
    training: Split
    validation: Split
    calibration: Split
    held_out: pa.Table
    excerpt: list[list[Any]]


def prepare(table: pa.Table, recipe: Recipe, fold: int = 0) -> Prepared:
    """Splits and encodes the table; for cross-conformal calibration with the rows of another
    fold than the first held out (`models.cross_conformal`).

    Raises:
        DataError: the target or the columns cannot be used, or there are too few rows.
        ValueError: the recipe describes no network.
    """
    table = labelled_rows(table, recipe.target)
    task = infer_task(table, recipe.target) if recipe.task == "auto" else recipe.task
    strata = _strata(table, recipe.target) if task == "classification" else None
    training, validation, calibration = _split(table.num_rows, recipe, strata, fold)
    schema = infer_schema(table, recipe.target, task, training)
    config = MLPConfig(
        in_features=schema.in_features,
        out_features=schema.target.out_features,
        hidden=recipe.hidden,
        activation=recipe.activation,
        dropout=recipe.dropout,
        p=DEFAULT_P if recipe.p == "auto" else recipe.p,
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
        excerpt=excerpt_rows(table, training, schema, recipe.seed)
        if recipe.keep_excerpt and fold == 0
        else [],
    )


def finish(
    prepared: Prepared,
    fitted: FitResult,
    created_at: str,
    provenance: Mapping[str, Any],
    folds: Sequence[tuple[Prepared, FitResult]] = (),
) -> Artifact:
    """The artifact of a fitted network: settled on the validation rows, calibrated and
    measured on the calibration rows, which neither the weights nor the choice of the epoch
    have seen.

    With `folds`, networks fitted alike to other splits of the same table, their calibration
    rows are pooled with these (`models.cross_conformal`); the metrics of the version stay
    those of its own, and the folds' are told beside them.

    Raises:
        TrainingError: an output of a network is not a finite number.
    """
    settled, target = settle(fitted.network, prepared.validation), prepared.schema.target
    plan = make_plan(settled.network)
    scores = choose_scores(plan, target, prepared.validation)
    own = hold_out(plan, target, prepared.calibration)
    parts = [own]
    for fold, fit in folds:
        others = make_plan(settle(fit.network, fold.validation).network)
        parts.append(hold_out(others, fold.schema.target, fold.calibration))
    gaps = analytic_gaps(plan, target, prepared.calibration) if plan.is_stochastic else {}
    calibration = calibrate(parts, scores, settled.temperatures, gaps)
    kind = calibration.finest.score
    metrics = {
        "rows": {
            "training": len(prepared.training),
            "validation": len(prepared.validation),
            "calibration": len(prepared.calibration),
        },
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "eval_mode": measure([own], dropout=False, score=kind),
        "mc_mode": {"n_samples": N_SAMPLES} | measure([own], dropout=True, score=kind),
    }
    keeps = bool(prepared.excerpt)
    report = gather(parts, dropout=plan.is_stochastic, score=kind, with_rows=keeps)
    if plan.is_stochastic:
        metrics["sampling_curve"] = sampling_curve(plan, target, prepared.calibration)
        report["weight_scaling"] = weight_scaling(plan, target, prepared.calibration)
    if keeps:
        report["excerpt"] = prepared.excerpt
    if folds:
        metrics["out_of_fold"] = {
            "rows": sum(len(part.truth) for part in parts),
            "eval_mode": measure(parts, dropout=False, score=kind),
            "mc_mode": {"n_samples": N_SAMPLES} | measure(parts, dropout=True, score=kind),
        }
    return Artifact(
        prepared.schema,
        settled.network,
        calibration,
        created_at,
        metrics,
        dict(provenance),
        report,
    )


def count_folds(n_rows: int, n_calibration: int) -> int:
    """Into how many folds so many rows fall: of at least the calibration rows' number each,
    unless that makes too many."""
    return min(MOST_FOLDS, max(2, n_rows // n_calibration))


def _strata(table: pa.Table, target: str) -> Array:
    _, strata = np.unique(
        np.array([str(value) for value in table.column(target).to_pylist()]), return_inverse=True
    )
    return strata


def _split(
    n_rows: int, recipe: Recipe, strata: Array | None, fold: int
) -> tuple[Array, Array, Array]:
    """Row numbers for training, validation and calibration; classes in equal shares.

    In the first fold all three lie in a row, calibration first. The rows behind it are cut
    into `count_folds` - 1 further folds; those of the one asked for calibrate, the next ones
    validate, and so around.
    """
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
    if fold > 0:
        n_others = count_folds(n_rows, n_calibration) - 1
        ends = n_calibration + np.arange(n_others + 1) * (n_rows - n_calibration) // n_others
        order = np.roll(order, -int(ends[fold - 1]))
        n_calibration = int(ends[fold] - ends[fold - 1])
    calibration, validation, training = np.split(
        order, [n_calibration, n_calibration + n_validation]
    )
    return np.sort(training), np.sort(validation), np.sort(calibration)
