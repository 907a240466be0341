"""Default hyperparameters against scikit-learn's defaults, on the same splits.

scikit-learn trains on all training rows, with inputs encoded and scaled as ours and, for
regression, a scaled target. We train on three quarters of them: the others choose the epoch
and calibrate. Figures are on test rows: RMSE in the target's unit, or accuracy.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.data import DataSet, load
from models.recipe import Recipe, finish, prepare
from models.schema_inference import encode_features, encode_target, infer_schema
from models.training import fit


def run(arguments: argparse.Namespace) -> None:
    """Prints a row for each data set."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    console = Console(width=110)
    table = Table(
        "data set", "splits", "measure", "Dropcast", "scikit-learn", "difference", "seconds a fit",
        title="Defaults against scikit-learn's defaults (mean ± standard error over splits)",
    )  # fmt: skip
    for data in load(arguments.data, arguments.splits or 5):
        if arguments.only and data.name not in arguments.only:
            continue
        results = [
            (*_ours(data, i), *_theirs(data, i))
            for i in track(range(len(data.splits)), data.name, console=console, transient=True)
        ]
        table.add_row(*_row(data, np.array(results)))
    console.print(table)


def _row(data: DataSet, results: np.ndarray) -> list[str]:
    ours, our_seconds, theirs, their_seconds = results.T
    is_error = data.task == "regression"
    gain = (theirs - ours) if is_error else (ours - theirs)
    digits = 0 if ours.mean() > 1000 else 4
    verdict = {1: "better", 0: "equal", -1: "worse"}[int(np.sign(gain.mean()))]
    return [
        data.name,
        str(len(results)),
        "RMSE" if is_error else "accuracy",
        _with_error(ours, digits),
        _with_error(theirs, digits),
        f"{_with_error(gain, digits)} {verdict}",
        f"{our_seconds.mean():.1f} / {their_seconds.mean():.1f}",
    ]


def _with_error(values: np.ndarray, digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


def _ours(data: DataSet, split: int) -> tuple[float, float]:
    training_rows, test_rows = data.splits[split]
    recipe = Recipe(data.target, task=data.task, seed=split)
    recipe = replace(recipe, training=replace(recipe.training, seed=split))
    started = time.perf_counter()
    prepared = prepare(data.table.take(training_rows), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, recipe.training)
    artifact = finish(prepared, fitted, "", {})
    seconds = time.perf_counter() - started
    test = data.table.take(test_rows)
    with torch.no_grad():
        outputs = artifact.network(torch.from_numpy(encode_features(test, artifact.schema)))
    truth = encode_target(test, artifact.schema)
    return _score(data, outputs.numpy(), truth, artifact.schema.target.std), seconds


def _theirs(data: DataSet, split: int) -> tuple[float, float]:
    training_rows, test_rows = data.splits[split]
    schema = infer_schema(data.table, data.target, data.task, training_rows)
    x, y = encode_features(data.table, schema), encode_target(data.table, schema)
    kind = MLPRegressor if data.task == "regression" else MLPClassifier
    started = time.perf_counter()
    model = kind(random_state=split).fit(x[training_rows], y[training_rows])
    seconds = time.perf_counter() - started
    if data.task == "regression":
        outputs = model.predict(x[test_rows])[:, None]
    else:
        outputs = model.predict_proba(x[test_rows])
    return _score(data, outputs, y[test_rows], schema.target.std), seconds


def _score(data: DataSet, outputs: np.ndarray, truth: np.ndarray, std: float) -> float:
    if data.task == "regression":
        return float(np.sqrt(((outputs[:, 0] - truth) ** 2).mean()) * std)
    return float((outputs.argmax(axis=1) == truth).mean())
