"""Which conformal score makes the better prediction sets: LAC, APS or RAPS?

One network is trained for each set (twenty for penguins, which are few) and asked for rows that
it has not seen; these are then cut at random, many times, into calibration and test rows. All
scores are given the same cuts and the same random numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.coverage import usable_rows
from benchmarks.data import DataSet, load
from models.calibration import calibrate_groups
from models.conformal import CLASS_SCORES
from models.held_out import HeldOut, hold_out
from models.recipe import Recipe, prepare
from models.sampling import make_plan
from models.schema_inference import encode_features, encode_target
from models.settling import settle
from models.training import fit
from models.training_run import Split, TrainingOptions
from models.uncertainty import ClassificationSummary, Summary, take_rows

LEVELS = (0.8, 0.9, 0.95)
# Rows to train on (a tenth of them validates), calibration rows, networks, epochs.
SHAPES = {
    "penguins": (170, 60, 20, 40),
    "adult": (6000, 1000, 1, 15),
    "mnist": (3000, 1000, 1, 20),
}
CUTS = 100
MOST_HELD_OUT = 6000


def run(arguments: argparse.Namespace) -> None:
    """Prints a row for each data set, level and score."""
    torch.set_num_threads(1)
    console = Console(width=120)
    table = Table(
        "data", "nominal", "score", "exact: coverage", "size", "served: coverage", "size",
        "served, hardest fifth",
        title=f"Prediction sets, means over {CUTS} cuts",
    )  # fmt: skip
    for data in load(arguments.data, 1):
        if data.name not in SHAPES or (arguments.only and data.name not in arguments.only):
            continue
        found: dict[tuple[float, str], list[list[float]]] = {}
        cuts = track(_cuts(data), data.name, CUTS, console=console, transient=True)
        for cut in cuts:
            _judge(cut, found)
        for (level, score), results in found.items():
            figures = [f"{value:.3f}" for value in np.mean(results, axis=0)]
            table.add_row(data.name, f"{level:.2f}", score, *figures)
    console.print(table)


@dataclass(frozen=True)
class Cut:
    """Rows that a network has not seen, what it says of them, and which of them calibrate."""

    held_out: HeldOut
    summary: Summary
    calibration: np.ndarray
    test: np.ndarray


def _cuts(data: DataSet) -> Iterator[Cut]:
    _, n_calibration, n_networks, _ = SHAPES[data.name]
    for network in range(n_networks):
        held_out = _train(data, network)
        summary = next(held_out.groups(len(held_out.drawn)))
        for cut in range(CUTS // n_networks):
            order = np.random.default_rng(cut).permutation(len(held_out.truth))
            yield Cut(held_out, summary, order[:n_calibration], order[n_calibration:])


def _train(data: DataSet, seed: int) -> HeldOut:
    n_rows, _, _, epochs = SHAPES[data.name]
    table = usable_rows(data)
    order = np.random.default_rng(seed).permutation(table.num_rows)
    options = TrainingOptions(epochs=epochs, seed=seed)
    recipe = Recipe(
        data.target, task=data.task, hidden=(128, 128), training=options, seed=seed,
        calibration_fraction=0.05,
    )  # fmt: skip
    prepared = prepare(table.take(order[:n_rows]), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    network = settle(fitted.network, prepared.validation).network
    others = table.take(order[n_rows:][:MOST_HELD_OUT])
    x = torch.from_numpy(encode_features(others, prepared.schema))
    y = torch.from_numpy(encode_target(others, prepared.schema))
    return hold_out(make_plan(network), prepared.schema.target, Split(x, y))


def _judge(cut: Cut, found: dict[tuple[float, str], list[list[float]]]) -> None:
    known, asked = take_rows(cut.summary, cut.calibration), take_rows(cut.summary, cut.test)
    assert isinstance(asked, ClassificationSummary)
    all_truth, uniforms = cut.held_out.truth, cut.held_out.uniforms
    truth, rows = all_truth[cut.test], np.arange(len(cut.test))
    confidence = asked.probabilities.max(axis=1)
    is_hard = confidence <= np.quantile(confidence, 0.2)
    for score in CLASS_SCORES:
        calibration = calibrate_groups(
            [known], all_truth[cut.calibration], uniforms[cut.calibration], score
        )
        for level in LEVELS:
            question = (asked.probabilities, level, uniforms[cut.test])
            figures = []
            for find in (calibration.exact_set, calibration.prediction_set):
                members = find(*question)
                covered = members[rows, truth]
                figures += [covered.mean(), members.sum(axis=1).mean()]
            found.setdefault((level, score), []).append([*figures, covered[is_hard].mean()])
