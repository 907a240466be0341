"""The UCI table of Gal & Ghahramani (2016), on its 20 splits: one recipe for every set.

Of a split's training rows alone: ReLU or GELU, and one of four p, are chosen by four-fold
cross-validation (the first round of `models.search` with each activation), the noise is settled
on the out-of-fold rows of four more networks with that choice, and one network is fitted to all
rows. Test rows are met in MC mode, 1,000 thinned networks: the RMSE of their mean, and the mean
log density of their mixture.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.data import UCI, load_uci
from benchmarks.pieces import Piece, compute
from models.mlp import MLPConfig
from models.noise import set_noise
from models.sampling import make_plan, sample
from models.schema_inference import encode_features, encode_target, infer_schema
from models.scores import mixture_nll
from models.search import Budget, Fold, Trial, cross_validate, make_folds, search
from models.stack import Member, fit_stack
from models.training_run import Split, TrainingOptions
from models.uncertainty import to_gaussians

HIDDEN, ACTIVATIONS = (128, 128), ("relu", "gelu")
STEPS, MOST_EPOCHS, BATCH_SIZE, LEARNING_RATE = 3_500, 300, 64, 1e-2
BUDGET = Budget(rounds=1, n_folds=4, epochs_share=1 / 3)
N_SAMPLES = 1_000
MEASURES = ("RMSE", "LL")
# Where the shared figures stand: heading, and the keys of both measures.
PUBLISHED = (
    ("Gal & Gh. 2016", "paper_table1", ("rmse", "ll")),
    ("later grid search", "readme_head", ("grid_rmse", "grid_ll")),
    ("2 layers", "readme_old_2_layers", ("rmse", "ll")),
)


def run(arguments: argparse.Namespace) -> None:
    """Prints two rows for each data set."""
    console = Console(width=140)
    names = [name for name in UCI if not arguments.only or name in arguments.only]
    n_splits = arguments.splits or 20
    splits = {data.name: len(data.splits) for data in load_uci(arguments.data, n_splits, names)}
    tasks = [(str(arguments.data), name, i) for name, n in splits.items() for i in range(n)]
    pieces = compute(measure, tasks, arguments.cache / "uci.jsonl", arguments.jobs, console)
    table = Table(
        "data set", "measure", "Dropcast", *(heading for heading, _, _ in PUBLISHED),
        "p (median, range)", "GELU", "CPU s a split",
        title="UCI, MC mode, mean ± standard error over splits (target units; nats)",
    )  # fmt: skip
    for name, n in splits.items():
        own = [piece for task, piece in zip(tasks, pieces, strict=True) if task[1] == name]
        for row in _rows(name, own, arguments.data / "uci" / "published_results.json"):
            table.add_row(*row, end_section=row[1] == MEASURES[1] and n > 0)
    console.print(table)


def _rows(name: str, pieces: Sequence[Piece], published: Path) -> list[list[str]]:
    figures = json.loads(published.read_text())[name] if published.exists() else {}
    p = [piece["p"] for piece in pieces]
    seconds = np.mean([piece["seconds"] for piece in pieces])
    more = {
        MEASURES[0]: [
            f"{np.median(p):.2g} ({min(p):.2g} to {max(p):.2g})",
            str(sum(piece["activation"] == "gelu" for piece in pieces)),
            f"{seconds:.0f}",
        ],
        MEASURES[1]: ["", "", ""],
    }
    rows = []
    for i, measure_name in enumerate(MEASURES):
        values = np.array([piece[measure_name] for piece in pieces])
        error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
        theirs = [
            "{:.2f} ± {:.2f}".format(*figures[key][keys[i]]) if figures else ""
            for _, key, keys in PUBLISHED
        ]
        own = f"{values.mean():.3f} ± {error:.3f}"
        rows.append([name if i == 0 else "", measure_name, own, *theirs, *more[measure_name]])
    return rows


def measure(folder: str, name: str, split: int) -> Piece:
    """One split of one set, from its training rows to its two figures."""
    started = time.process_time()
    (data,) = load_uci(Path(folder), split + 1, [name])
    training_rows, test_rows = data.splits[split]
    schema = infer_schema(data.table, data.target, data.task, training_rows)
    x = torch.from_numpy(encode_features(data.table, schema))
    y = torch.from_numpy(encode_target(data.table, schema))
    training = Split(x[training_rows], y[training_rows])
    options = TrainingOptions(
        epochs=min(MOST_EPOCHS, STEPS // math.ceil(len(training) / BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=split,
    )
    folds = make_folds(len(training), BUDGET.n_folds, split)
    config, best = _choose(schema.in_features, training, folds, options)
    choice = (best.p, best.weight_decay)
    ((_, noise),) = cross_validate(config, training, folds, options, [choice])
    member = Member(torch.arange(len(training)), *choice)
    (network,) = fit_stack(config, training, [member], options)
    assert noise is not None
    set_noise(network, noise)
    raw = sample(make_plan(network), x[test_rows], seed=0, n_samples=N_SAMPLES)
    means, variances = to_gaussians(schema.target, raw.double().numpy())
    truth = y[test_rows].double().numpy() * schema.target.std + schema.target.mean
    scores: dict[str, Any] = {
        "RMSE": float(np.sqrt(((means.mean(axis=0) - truth) ** 2).mean())),
        "LL": -mixture_nll(truth, means, variances),
    }
    spent = round(time.process_time() - started, 1)
    chosen = {"activation": config.activation, "p": best.p, "weight_decay": best.weight_decay}
    return scores | chosen | {"seconds": spent}


def _choose(
    in_features: int, training: Split, folds: Sequence[Fold], options: TrainingOptions
) -> tuple[MLPConfig, Trial]:
    """The network under which rows that did not train it are likeliest."""
    found = []
    for activation in ACTIVATIONS:
        config = MLPConfig(in_features, 1, HIDDEN, activation=activation)
        found.append((config, search(config, training, folds, options, BUDGET).best))
    return min(found, key=lambda entry: entry[1].nll or 0.0)
