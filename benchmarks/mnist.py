"""Permutation-invariant MNIST beside Srivastava et al. 2014: their table 2 and figures 7, 8, 11.

Networks of 784-1024-1024-1024-10 ReLU units, no augmentation, pixels between 0 and 1, trained on
all 60,000 rows for a fixed number of epochs. The recipe was chosen on 10,000 held-out rows of
these; test rows are looked at once, when a row of the table is ready. Where the paper speaks of
keeping .8 of the inputs and .5 of the hidden units, we drop .2 and .5.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import mnist_curve, mnist_figures
from benchmarks.journal import Journal
from models.mlp import MLP, MLPConfig
from models.sampling import make_plan
from models.training import fit
from models.training_run import Epoch, Split, TrainingOptions

MC_SAMPLES = 100
HEADLINE, PLAIN = "Bernoulli, max-norm", "no dropout, max-norm"


@dataclass(frozen=True)
class Row:
    """One network of the table, with the error (%) that the paper states for its like."""

    name: str
    dropout: Literal["bernoulli", "gaussian"] | None
    max_norm: float | None
    published: str

    @property
    def config(self) -> MLPConfig:
        p, input_p = (0.0, 0.0) if self.dropout is None else (0.5, 0.2)
        return MLPConfig(
            784,
            10,
            (1024, 1024, 1024),
            dropout=self.dropout or "bernoulli",
            p=p,
            input_p=input_p,
            head="classification",
        )

    @property
    def options(self) -> TrainingOptions:
        return TrainingOptions(
            epochs=15 if self.dropout is None else 60,
            batch_size=512,
            learning_rate=2e-3,
            weight_decay=0.0,
            max_norm=self.max_norm,
            gradient_clip=None,
            keep="last",
        )

    @property
    def run(self) -> str:
        """Names the training run and its files: another recipe is another run."""
        settings = json.dumps([self.config.to_dict(), asdict(self.options)])
        name = self.name.replace(", ", "-").replace(" ", "-").lower()
        return f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


# Their 2 to 4 are of weights before the scaling: the least of these, half of the units kept.
MAX_NORM = 1.0
ROWS = (
    Row("no dropout", None, None, "1.60"),
    Row(PLAIN, None, MAX_NORM, ""),
    Row("Bernoulli", "bernoulli", None, "1.25"),
    Row(HEADLINE, "bernoulli", MAX_NORM, "1.06"),
    Row("Gaussian", "gaussian", None, ""),
    Row("Gaussian, max-norm", "gaussian", MAX_NORM, "0.95 (2 layers)"),
)
RUNS = {row.name: row.run for row in ROWS}


def run(arguments: argparse.Namespace) -> None:
    """Trains what is not trained yet, then prints the table and the curve and draws figures."""
    torch.set_num_threads(1)
    path = arguments.data / "mnist.npz"
    if not path.exists():
        print(f"skipped: {path} is not there (see --data)")
        return
    chosen = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    if not chosen:
        print(f"skipped: --only names none of the networks {'; '.join(RUNS)}")
        return
    training, test = _load(path)
    journal = Journal(arguments.cache / "mnist")
    journal.folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    with Progress(console=console) as progress:
        networks = {
            row.name: _fit_and_test(row, training, test, journal, progress)
            for row in sorted(chosen, key=lambda row: row.name != HEADLINE)
        }
        if HEADLINE in networks:
            plan = make_plan(networks[HEADLINE])
            mnist_curve.trace(RUNS[HEADLINE], plan, test, journal, progress)
    console.print(_table(chosen, journal))
    if HEADLINE in networks:
        scaled = journal.read(RUNS[HEADLINE], "errors")[-1]["weight_scaling"]
        figure = journal.folder / "mnist-curve.svg"
        mnist_curve.report(RUNS[HEADLINE], scaled, journal, console, figure)
    if {HEADLINE, PLAIN} <= set(networks):
        pair = {"without dropout": networks[PLAIN], "with dropout": networks[HEADLINE]}
        mnist_figures.draw_weights(pair, journal.folder / "mnist-weights.png")
        activity = {name: mnist_figures.measure(pair[name], test.x) for name in pair}
        mnist_figures.draw_activity(activity, journal.folder / "mnist-activity.svg")
        console.print(mnist_figures.tabulate_activity(activity))
    console.print(f"figures: {journal.folder}")


def _load(path: Path) -> tuple[Split, Split]:
    arrays = np.load(path)
    training, test = (
        Split(
            torch.from_numpy(arrays[f"x_{part}"].reshape(-1, 784)).float() / 255.0,
            torch.from_numpy(arrays[f"y_{part}"]).long(),
        )
        for part in ("train", "test")
    )
    return training, test


def _fit_and_test(
    row: Row, training: Split, test: Split, journal: Journal, progress: Progress
) -> MLP:
    """The row's network; its times and its errors are in the journal then."""
    network = _fit(row, training, journal, progress)
    if not journal.read(row.run, "errors"):
        started = time.process_time()
        plan = make_plan(network)
        errors = {"weight_scaling": mnist_curve.weight_scaling_error(plan, test)}
        if plan.is_stochastic:
            drawn = mnist_curve.draw_probabilities(plan, test.x, 0, MC_SAMPLES)
            errors["mc"] = mnist_curve.group_errors(drawn, test.y, MC_SAMPLES)[0]
        seconds = time.process_time() - started
        journal.write(row.run, "errors", **errors, cpu_seconds=seconds)
    return network


def _fit(row: Row, training: Split, journal: Journal, progress: Progress) -> MLP:
    """Trains or goes on training; a finished run is read from its checkpoint.

    Products and hidden activations are in bfloat16, about twice as fast where the processor
    knows it; weights, optimiser and loss stay float32. Autocast must not cache the cast weights: it
    would keep those of the first step for as long as its context lasts.
    """
    options = row.options
    done = len(journal.read(row.run, "epoch"))
    task = progress.add_task(row.name, total=options.epochs, completed=done)
    clock = time.process_time()

    def note(epoch: Epoch) -> None:
        nonlocal clock
        now = time.process_time()
        journal.write(row.run, "epoch", **asdict(epoch), cpu_seconds=now - clock)
        clock = now
        progress.advance(task)

    # Nothing is chosen by them: these rows only show the loss of trained rows, dropout off.
    seen = Split(training.x[:1000], training.y[:1000])
    checkpoint = journal.folder / f"{row.run}.checkpoint"
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        return fit(
            row.config, training, seen, options, on_epoch=note, checkpoint=checkpoint
        ).network


def _table(rows: list[Row], journal: Journal) -> Table:
    table = Table(
        "network", "weight scaling", f"MC, T={MC_SAMPLES}", "published", "epochs",
        "CPU minutes", "MC, CPU minutes",
        title="MNIST, 784-1024-1024-1024-10 ReLU: test error in %",
    )  # fmt: skip
    for row in rows:
        errors = journal.read(row.run, "errors")[-1]
        epochs = journal.read(row.run, "epoch")
        table.add_row(
            row.name,
            f"{errors['weight_scaling']:.2f}",
            f"{errors['mc']:.2f}" if "mc" in errors else "",
            row.published,
            str(len(epochs)),
            f"{sum(epoch['cpu_seconds'] for epoch in epochs) / 60:.1f}",
            f"{errors['cpu_seconds'] / 60:.1f}",
        )
    return table
