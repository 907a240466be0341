"""Fit an MLP to tensors, with early stopping, and checkpoints that resume exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from models.checkpoint import load_checkpoint, save_checkpoint
from models.mlp import MLP, MLPConfig
from models.training_run import Epoch, Run, Split, TrainingOptions


@dataclass(frozen=True)
class FitResult:
    """The network of the best epoch, or of the last if that was to be kept, in eval mode on the
    CPU; which epoch it is; and every epoch's report."""

    network: MLP
    history: tuple[Epoch, ...]
    best_epoch: int


def fit(
    config: MLPConfig,
    training: Split,
    validation: Split,
    options: TrainingOptions,
    *,
    on_epoch: Callable[[Epoch], object] = lambda _: None,
    checkpoint: Path | None = None,
    should_checkpoint: Callable[[], bool] = lambda: True,
) -> FitResult:
    """A network fitted to the training rows, as it was at its best on the validation rows (or, by
    the option `keep`, at the end).

    With `checkpoint` the state after an epoch is kept in that file whenever
    `should_checkpoint()` says so, and a file left by an interrupted run is continued: the
    weights are then those of an uninterrupted run on the same machine. Torch's global
    generators are left as they were found.

    Raises:
        TrainingError: the loss stopped being a number, or the checkpoint is of another run.
    """
    options = options.resolved(len(training))
    device = torch.device(options.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed)
        run = Run(config, training.to(device), validation.to(device), options)
        if checkpoint is not None and checkpoint.exists():
            load_checkpoint(run, checkpoint)
        while not run.is_over:
            report = run.train_epoch()
            if checkpoint is not None and (should_checkpoint() or run.is_over):
                save_checkpoint(run, checkpoint)
            on_epoch(report)
        history = tuple(Epoch(**report) for report in run.state.history)
        network, epoch = run.kept
        # A copy, for parameters that have memory of their own.
        return FitResult(copy.deepcopy(network).cpu().eval(), history, epoch)
