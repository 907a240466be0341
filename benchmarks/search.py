"""`"p": "auto"` against the fixed default, p = 0.1 and weight decay 0.01, on the same splits.

Both with the default network and options, both calibrated and with their noise settled as in a
training job; what `auto` adds is the search before the fit. Figures are mean negative
log-likelihoods of test rows in MC mode (nats). Large sets are cut to 3,000 training rows.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.data import DataSet, load_one, load_tables
from benchmarks.pieces import Piece, compute
from models.comparison import encode_rows, proper_score
from models.recipe import Recipe, finish, prepare
from models.search import choose_dropout
from models.training import fit

SETS = ("yacht", "penguins", "energy", "concrete", "wine-quality-red", "california", "adult")
MOST_TRAINING_ROWS, MOST_TEST_ROWS = 3_000, 5_000


def run(arguments: argparse.Namespace) -> None:
    """Prints a row for each data set, and one for their mean."""
    console = Console(width=120)
    n_splits = arguments.splits or 3
    names = [name for name in SETS if not arguments.only or name in arguments.only]
    available = {data.name for data in load_tables(arguments.data, 1)}
    there = [name for name in names if name in available]
    tasks = [(str(arguments.data), name, i) for i in range(n_splits) for name in there]
    pieces = compute(measure, tasks, arguments.cache / "search.jsonl", arguments.jobs, console)
    table = Table(
        "data set", "splits", "NLL, p = 0.1", "NLL, p = auto", "gain", "p chosen", "time, in fits",
        title='"p": "auto" against p = 0.1: test NLL in MC mode, mean ± standard error',
    )  # fmt: skip
    gains = []
    for name in there:
        own = [piece for task, piece in zip(tasks, pieces, strict=True) if task[1] == name]
        fixed, auto = (np.array([piece[key] for piece in own]) for key in ("fixed", "auto"))
        gains.append(fixed - auto)
        chosen = ", ".join(f"{piece['p']:g}" for piece in own)
        cost = np.mean([piece["search_seconds"] / piece["fit_seconds"] for piece in own])
        figures = (_with_error(values) for values in (fixed, auto, fixed - auto))
        table.add_row(name, str(len(own)), *figures, chosen, f"1 + {cost:.1f}")
    if gains:
        table.add_section()
        table.add_row("mean over sets", "", "", "", _with_error(np.mean(gains, axis=0)), "", "")
    console.print(table)


def _with_error(values: np.ndarray) -> str:
    error = f" ± {values.std(ddof=1) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{error}"


def measure(folder: str, name: str, split: int) -> Piece:
    """One split of one set, both ways."""
    data = load_one(Path(folder), name, split + 1)
    training_rows, test_rows = _rows(data, split)
    test = data.table.take(test_rows)
    recipe = Recipe(data.target, task=data.task, seed=split)
    recipe = replace(recipe, training=replace(recipe.training, seed=split))
    prepared = prepare(data.table.take(training_rows), recipe)
    piece: dict[str, Any] = {}
    for way in ("fixed", "auto"):
        if way == "auto":
            started = time.process_time()
            prepared, recipe, choice = choose_dropout(prepared, replace(recipe, p="auto"))
            piece["search_seconds"] = round(time.process_time() - started, 1)
            piece |= {"p": choice.best.p, "weight_decay": choice.best.weight_decay}
            piece["trials"] = choice.describe()["trials"]
        started = time.process_time()
        fitted = fit(prepared.config, prepared.training, prepared.validation, recipe.training)
        if way == "fixed":
            piece["fit_seconds"] = round(time.process_time() - started, 1)
        artifact = finish(prepared, fitted, "", {})
        rows = encode_rows(artifact, test)
        # Rows with what no training row has cannot be scored.
        piece[way] = None if rows is None else proper_score(artifact, rows)
    return piece


def _rows(data: DataSet, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows; of a set too large to be used whole, random ones."""
    training_rows, test_rows = data.splits[min(split, len(data.splits) - 1)]
    if len(training_rows) <= MOST_TRAINING_ROWS:
        return training_rows, test_rows
    order = np.random.default_rng(split).permutation(data.table.num_rows)
    return order[:MOST_TRAINING_ROWS], order[-MOST_TEST_ROWS:]
