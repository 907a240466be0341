"""How many textbook samples one sample of each estimator is worth.

Gain: the mean squared error of T textbook samples over that of the estimator with T, against a
reference of textbook samples, averaged over rows (each in units of its own variance) and
seeds; for the predictive mean and for its epistemic std. For `analytic`, which draws nothing,
the number of textbook samples that err as much. Networks with 256 ReLU units a layer, trained on
each set with the defaults and 100 epochs; rows are held-out ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.data import load_one, load_tables
from benchmarks.pieces import Piece, compute
from models.draw import Draw, Estimator
from models.estimators import estimate
from models.recipe import Recipe, finish, prepare
from models.sampling import Plan, make_plan, sample
from models.table import Target
from models.training import fit
from models.training_run import TrainingOptions
from models.uncertainty import moments, summarise

SETS = ("concrete", "energy", "penguins")
PROBABILITIES = (0.05, 0.1, 0.2, 0.5)
DEPTHS = (1, 2, 3, 4)
N_ROWS, N_SAMPLES, N_SEEDS = 20, 100, 40
# Textbook samples of the reference; the first at p = 0.1 with two hidden layers.
REFERENCE_HEADLINE, REFERENCE = 1_000_000, 100_000
ESTIMATORS: tuple[Estimator, ...] = ("stratified", "control_variate", "analytic")
COLUMNS = [(of, name) for of in ("mean", "std") for name in ESTIMATORS]


def run(arguments: argparse.Namespace) -> None:
    """Prints a row for each network."""
    console = Console(width=120)
    names = [data.name for data in load_tables(arguments.data, 1)]
    tasks = [
        (str(arguments.data), name, depth, p)
        for name in names
        if name in (arguments.only or SETS)
        for depth in DEPTHS
        for p in PROBABILITIES
    ]
    pieces = compute(measure, tasks, arguments.cache / "estimators.jsonl", arguments.jobs, console)
    table = Table(
        "data set", "layers", "p", *(f"{of}:\n{name}" for of, name in COLUMNS),
        title=f"Gain over textbook Monte Carlo, T = {N_SAMPLES}",
    )  # fmt: skip
    for (_, name, depth, p), gains in zip(tasks, pieces, strict=True):
        cells = (_shown(estimator, gains[f"{estimator} {of}"]) for of, estimator in COLUMNS)
        table.add_row(name, str(depth), str(p), *cells)
    console.print(table)


def _shown(name: str, gain: float) -> str:
    """The gain, as far as the reference can tell."""
    most = REFERENCE if name == "analytic" else REFERENCE / N_SAMPLES
    if gain > most:
        return f"> {most:.0f}"
    return f"{gain:.1f}" if gain < 10 else f"{gain:.0f}"


def measure(folder: str, name: str, depth: int, p: float) -> Piece:
    """The gains in one network."""
    data = load_one(Path(folder), name)
    options = TrainingOptions(epochs=100)
    recipe = Recipe(data.target, task=data.task, hidden=(256,) * depth, p=p, training=options)
    prepared = prepare(data.table, recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    artifact = finish(prepared, fitted, "", {})
    plan, target = make_plan(artifact.network), artifact.schema.target
    rows = _most_uncertain(plan, target, prepared.calibration.x)
    n_reference = REFERENCE_HEADLINE if (depth, p) == (2, 0.1) else REFERENCE
    mean, variance = reference(plan, target, rows, n_reference)
    errors = {name: np.zeros(2) for name in ("mc", *ESTIMATORS)}
    for seed in range(N_SEEDS):
        for estimator in errors:
            draw = Draw(n_samples=N_SAMPLES, seed=seed, estimator=estimator)
            centre, spread = moments(estimate(plan, target, rows, draw).summary)
            errors[estimator] += (
                (((centre - mean) ** 2) / variance).mean(),
                (((spread - np.sqrt(variance)) ** 2) / variance).mean(),
            )
    # The reference's own error, which is in each of them; less than a part of it is not seen.
    floor = np.array([1.0, 0.5]) / n_reference
    errors = {
        estimator: np.maximum(error / N_SEEDS - floor, 0.2 * floor)
        for estimator, error in errors.items()
    }
    gains = {estimator: errors["mc"] / errors[estimator] for estimator in ESTIMATORS}
    gains["analytic"] = gains["analytic"] * N_SAMPLES
    return {
        f"{estimator} {of}": float(gain[i])
        for estimator, gain in gains.items()
        for i, of in enumerate(("mean", "std"))
    }


def _most_uncertain(plan: Plan, target: Target, x: torch.Tensor) -> torch.Tensor:
    """Of classes the rows that are not certain; else the first."""
    if target.task == "regression":
        return x[:N_ROWS]
    _, spread = moments(estimate(plan, target, x, Draw()).summary)
    order = np.argsort(-spread.max(axis=1))
    return x[torch.from_numpy(order[:N_ROWS].copy())]


def reference(
    plan: Plan, target: Target, x: torch.Tensor, n_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over so many textbook samples, none of them among those judged."""
    step, centres, squares = 4_000, [], []
    for start in range(0, n_samples, step):
        raw = sample(plan, x, seed=2**40, n_samples=step, first=start).double().numpy()
        centre, spread = moments(summarise(target, raw))
        centres.append(centre)
        squares.append(spread**2)
    means = np.array(centres)
    return means.mean(axis=0), np.mean(squares, axis=0) + means.var(axis=0)
