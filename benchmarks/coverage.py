"""Do intervals and prediction sets cover as often as they say, over many random splits?

Each split takes rows at random to train and calibrate on, by the product's own prepare, fit
and finish, and asks the rows that are left in MC mode, with masks of another seed. Coverage is
to hold whatever the model, so networks and epochs are fewer than the defaults.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.data import DataSet, load_one, load_tables
from benchmarks.pieces import Piece, compute
from models.artifact import Artifact
from models.conformal import row_uniforms
from models.cross_conformal import fit_folds
from models.draw import Draw
from models.estimators import estimate
from models.recipe import Recipe, count_folds, finish, prepare
from models.sampling import make_plan
from models.schema_inference import encode_features, encode_target
from models.training import fit
from models.training_run import TrainingOptions
from models.uncertainty import RegressionSummary

SPLITS = 200
LEVELS = (0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Case:
    """So many rows to train and calibrate on, at most so many others to ask; `cross`: across
    folds, too. Where n + 1 calibration rows are a multiple of 20, a split's expected coverage
    is the nominal one at all three levels."""

    data: str
    n_rows: int
    n_test: int
    epochs: int
    cross: bool = False

    @property
    def name(self) -> str:
        return f"{self.data}, {self.n_rows} rows"


CASES = (
    Case("penguins", 260, 82, epochs=40, cross=True),
    Case("concrete", 300, 500, epochs=40, cross=True),
    Case("concrete", 796, 234, epochs=40),
    Case("california", 2926, 1000, epochs=20),
)


def run(arguments: argparse.Namespace) -> None:
    """Prints a row for each case, way of calibrating, and level."""
    console = Console(width=120)
    there = {data.name for data in load_tables(arguments.data, 1)}
    cases = [
        i
        for i, case in enumerate(CASES)
        if case.data in there.intersection(arguments.only or there)
    ]
    tasks = [(str(arguments.data), i, split) for i in cases for split in range(SPLITS)]
    pieces = compute(measure, tasks, arguments.cache / "coverage.jsonl", arguments.jobs, console)
    table = Table(
        "data", "calibration", "n", "of", "nominal", "expected", "coverage", "z", "width or size",
        title=f"Coverage over {SPLITS} random splits (mean ± standard error)",
    )  # fmt: skip
    for i in cases:
        own = [piece for task, piece in zip(tasks, pieces, strict=True) if task[1] == i]
        for row in _rows(CASES[i], [piece["results"] for piece in own]):
            table.add_row(*row)
    console.print(table)


def measure(folder: str, number: int, split: int) -> Piece:
    """One split of a case: a result for each way of calibrating, kind of answer and level."""
    case = CASES[number]
    data = load_one(Path(folder), case.data)
    table = usable_rows(data)
    order = np.random.default_rng(split).permutation(table.num_rows)
    known = table.take(order[: case.n_rows])
    test = table.take(order[case.n_rows :][: case.n_test])
    options = TrainingOptions(epochs=case.epochs, seed=split)
    recipe = Recipe(data.target, task=data.task, hidden=(64, 64), training=options, seed=split)
    prepared = prepare(known, recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    results = _ask(finish(prepared, fitted, "", {}), test, "split", split)
    if case.cross:
        n_folds = count_folds(case.n_rows, len(prepared.calibration))
        folds = fit_folds(known, recipe, n_folds)
        results += _ask(finish(prepared, fitted, "", {}, folds), test, "cross", split)
    return {"results": results}


def usable_rows(data: DataSet) -> pa.Table:
    """Two penguins have no measurements at all; a model that has seen neither of them refuses
    the other."""
    if data.name != "penguins":
        return data.table
    return data.table.filter(pc.is_valid(data.table["bill_length_mm"]))


def _ask(artifact: Artifact, test: pa.Table, calibration: str, split: int) -> list[dict[str, Any]]:
    target, seed = artifact.schema.target, split + 1
    x = torch.from_numpy(encode_features(test, artifact.schema))
    truth = encode_target(test, artifact.schema)
    drawn = estimate(make_plan(artifact.network), target, x, Draw(seed=seed))
    calibrated = artifact.calibration.at(drawn.samples_used)
    n, rows = len(calibrated.scores), np.arange(len(truth))
    results = []
    for level in LEVELS:
        if isinstance(drawn.summary, RegressionSummary):
            lower, upper = calibrated.interval(drawn.summary, level)
            values = truth.astype(np.float64) * target.std + target.mean
            kinds = [(calibrated.score, (lower <= values) & (values <= upper), upper - lower)]
        else:
            question = (drawn.summary.probabilities, level, row_uniforms(x, seed))
            exact, served = calibrated.exact_set(*question), calibrated.prediction_set(*question)
            kinds = [
                (f"{name} set", members[rows, truth], members.sum(axis=1))
                for name, members in (("exact", exact), ("served", served))
            ]
        results += [
            {
                "calibration": calibration,
                "kind": kind,
                "level": level,
                "n": n,
                "coverage": float(covered.mean()),
                "size": float(sizes.mean()),
            }
            for kind, covered, sizes in kinds
        ]
    return results


def _rows(case: Case, splits: list[list[dict[str, Any]]]) -> list[list[str]]:
    """Intervals of either kind are one kind of answer here. Served sets are meant to cover more
    than they say."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for result in (result for results in splits for result in results):
        kind = result["kind"] if "set" in result["kind"] else "interval"
        groups.setdefault((result["calibration"], kind, result["level"]), []).append(result)
    rows = []
    for (calibration, kind, level), results in groups.items():
        coverage = np.array([result["coverage"] for result in results])
        size = np.mean([result["size"] for result in results])
        n = results[0]["n"]
        expected = math.ceil((n + 1) * level - 1e-9) / (n + 1)
        error = coverage.std(ddof=1) / len(coverage) ** 0.5
        rows.append(
            [
                case.name,
                calibration,
                str(n),
                kind,
                f"{level:.2f}",
                f"{expected:.4f}",
                f"{coverage.mean():.4f} ± {error:.4f}",
                "" if kind == "served set" else f"{(coverage.mean() - expected) / error:+.1f}",
                f"{size:.4g}",
            ]
        )
    return rows
