"""An epoch of training against the loop that users write, and against sklearn's network.

20,000 rows of 13 columns, two hidden layers of 256, batches of 128. All on one thread, by CPU time,
in turn; the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.verdict import Row, print_rows
from models import MLPConfig
from models.training_run import Run, Split, TrainingOptions

N_ROWS, INPUTS, HIDDEN, BATCH, P = 20_000, 13, (256, 256), 128, 0.1
REPEATS = 5


def run(_: argparse.Namespace) -> None:
    """Prints the rows."""
    print_rows(rows(), "Training: times faster, for one epoch")


def rows() -> list[Row]:
    """An epoch's time in a DataLoader loop and in sklearn, over its time here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            found = _measure()
    finally:
        torch.set_num_threads(threads)
    ours = found["ours"]
    note = f"{1e3 * median(ours):.0f} ms against {{:.0f}} ms of CPU time"
    return [
        Row(
            f"an epoch against {name}",
            median(theirs / mine for theirs, mine in zip(found[key], ours, strict=True)),
            target,
            at_most=False,
            note=note.format(1e3 * median(found[key])),
        )
        for key, name, target in (
            ("loop", "a DataLoader loop with torch's dropout", 3.0),
            ("sklearn", "sklearn's MLPRegressor, which has no dropout", 1.5),
        )
    ]


def _measure() -> dict[str, list[float]]:
    """Seconds of CPU time of each way, in turn; the first of each does not count."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ROWS, INPUTS, generator=generator)
    y = torch.sin(x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * torch.randn(N_ROWS, generator=generator)
    y = (y - y.mean()) / y.std()
    ways = {"ours": _ours(x, y), "loop": _loop(x, y), "sklearn": _sklearn(x, y)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS + 1):
        for name, epoch in ways.items():
            started = time.process_time()
            epoch()
            found[name].append(time.process_time() - started)
    return {name: times[1:] for name, times in found.items()}


def _ours(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    options = TrainingOptions(epochs=100, batch_size=BATCH).resolved(len(x))
    config = MLPConfig(INPUTS, 1, HIDDEN, p=P)
    return Run(config, Split(x, y), Split(x[:BATCH], y[:BATCH]), options).train_epoch


def _loop(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    layers: list[nn.Module] = []
    for a, b in zip((INPUTS, *HIDDEN), HIDDEN, strict=False):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(P)]
    network = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        for inputs, targets in loader:
            optimiser.zero_grad()
            loss = nn.functional.mse_loss(network(inputs)[:, 0], targets)
            loss.backward()
            optimiser.step()

    return epoch


def _sklearn(x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    inputs, targets = x.numpy().astype(np.float32), y.numpy().astype(np.float32)

    def epoch() -> None:
        network = MLPRegressor(
            hidden_layer_sizes=HIDDEN, batch_size=BATCH, max_iter=1, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(inputs, targets)

    return epoch
