"""Where there were no training data, does epistemic std rise, and does the model abstain?

Corners of the feature space of concrete are left out in training, one at a time; a fifth of the
other rows is held out to compare with.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import roc_auc_score

from models.draw import Draw
from models.estimators import estimate
from models.ingest import read_table
from models.recipe import Recipe, finish, prepare
from models.sampling import make_plan
from models.schema_inference import encode_features
from models.training import fit
from models.training_run import TrainingOptions
from models.uncertainty import RegressionSummary

SEEDS = 3
EPOCHS = 60
# Each a list of columns and of the quantile that all of them lie beyond.
CORNERS = {
    "age from 90 days on": [("age", 0.81)],
    "much cement, much superplasticizer": [("cement", 0.7), ("superplasticizer", 0.6)],
    "much cement, 56 days and more": [("cement", 0.5), ("age", 0.68)],
    "much cement, much slag": [("cement", 0.6), ("blast_furnace_slag", 0.6)],
    "much cement, much water": [("cement", 0.75), ("water", 0.5)],
    "56 days and more, much water": [("age", 0.68), ("water", 0.5)],
    "much slag, 28 days and more": [("blast_furnace_slag", 0.7), ("age", 0.31)],
}


def run(_: argparse.Namespace) -> None:
    """Prints a row for each corner."""
    torch.set_num_threads(1)
    console = Console(width=120)
    with resources.as_file(resources.files("service.examples") / "concrete.csv") as path:
        data = read_table(Path(path), "csv")
    table = Table(
        "left out", "rows", "ratio of medians", "AUROC", "flagged", "abstains there", "elsewhere",
        title=f"Epistemic std in corners that training has not seen (mean of {SEEDS} networks)",
    )  # fmt: skip
    for name in track(CORNERS, "shift", console=console, transient=True):
        corner = np.logical_and.reduce(
            [_beyond(data[column].to_numpy(), share) for column, share in CORNERS[name]]
        )
        figures = np.mean([_measure(data, corner, seed) for seed in range(SEEDS)], axis=0)
        shown = [f"{figures[0]:.2f}", f"{figures[1]:.2f}", *(f"{x:.0%}" for x in figures[2:])]
        table.add_row(name, str(corner.sum()), *shown)
    console.print(table)


def _beyond(values: np.ndarray, share: float) -> np.ndarray:
    return np.asarray(values > np.quantile(values, share))


def _measure(data: pa.Table, corner: np.ndarray, seed: int) -> list[float]:
    outside = np.random.default_rng(seed).permutation(np.flatnonzero(~corner))
    near, training = np.split(outside, [len(outside) // 5])
    options = TrainingOptions(epochs=EPOCHS, seed=seed)
    recipe = Recipe("compressive_strength", training=options, seed=seed)
    prepared = prepare(data.take(training), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    artifact = finish(prepared, fitted, "", {})
    found = []
    for rows in (near, np.flatnonzero(corner)):
        x = torch.from_numpy(encode_features(data.take(rows), artifact.schema))
        summary = estimate(make_plan(artifact.network), artifact.schema.target, x, Draw()).summary
        assert isinstance(summary, RegressionSummary)
        found.append(summary)
    known, unknown = found
    is_corner = np.repeat([0, 1], [len(near), corner.sum()])
    spread = np.concatenate([known.epistemic_std, unknown.epistemic_std])
    abstains = artifact.calibration.finest.abstains
    outside_range = np.zeros(int(corner.sum()), dtype=bool)
    for feature in artifact.schema.features:
        values = data[feature.name].to_numpy()[corner]
        outside_range |= (values < feature.minimum) | (values > feature.maximum)
    return [
        float(np.median(unknown.epistemic_std) / np.median(known.epistemic_std)),
        float(roc_auc_score(is_corner, spread)),
        float(outside_range.mean()),
        float(abstains(unknown).mean()),
        float(abstains(known).mean()),
    ]
