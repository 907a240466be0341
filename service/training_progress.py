"""What a job's events say of its epochs and trials, and when they will be over."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.search import Trial
from models.training_run import Epoch


class Stop:
    """The worker's wish that this process write a last checkpoint and end."""

    def __init__(self) -> None:
        self.is_requested = False
        self._is_awaited = False

    def request(self) -> None:
        """From another thread. Where no checkpoints are written the process ends at once."""
        self.is_requested = True
        if not self._is_awaited:
            os._exit(0)

    @contextmanager
    def is_awaited(self) -> Iterator[None]:
        """While it lasts a clock looks for the wish."""
        self._is_awaited = True
        try:
            yield
        finally:
            self._is_awaited = False
        if self.is_requested:
            raise SystemExit(0)


class Clock:
    """When the last checkpoint was, and how long the epochs to come will take."""

    def __init__(self, checkpoint_seconds: float, stop: Stop) -> None:
        self._interval = checkpoint_seconds
        self._stop = stop
        self._is_last = False
        self._last = time.monotonic()
        self._first_epoch = 0.0
        self._epochs = 0

    def is_due(self) -> bool:
        """Whether to write one now.

        Raises:
            SystemExit: the last one is written.
        """
        if self._is_last:
            raise SystemExit(0)
        if self._stop.is_requested:
            self._is_last = True
            return True
        if time.monotonic() - self._last < self._interval:
            return False
        self._last = time.monotonic()
        return True

    def seconds_left(self, epochs: int) -> float | None:
        """For so many more, told at each epoch's end; None until this run has done three. Its
        first one does not count: it is slow, as everything is then done for the first time."""
        self._epochs += 1
        if self._epochs == 1:
            self._first_epoch = time.monotonic()
        if self._epochs < 3:
            return None
        average = (time.monotonic() - self._first_epoch) / (self._epochs - 1)
        return round(epochs * average, 1)


def describe_epoch(epoch: Epoch, clock: Clock) -> dict[str, Any]:
    """Message, data and progress of an epoch that has ended."""
    return {
        "message": f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.5g}",
        "data": {
            "epoch": epoch.epoch,
            "training_loss": epoch.training_loss,
            "validation_loss": epoch.validation_loss,
            "learning_rate": epoch.learning_rate,
            "is_best": epoch.is_best,
        },
        "progress": {
            "epoch": epoch.epoch,
            "epochs": epoch.epochs,
            "fraction": epoch.epoch / epoch.epochs,
            "eta_seconds": clock.seconds_left(epoch.epochs - epoch.epoch),
        },
    }


def describe_trial(trial: Trial) -> dict[str, Any]:
    """Message and data of a search's trial."""
    outcome = "training diverged" if trial.nll is None else f"NLL {trial.nll:.4f}"
    return {
        "message": f"trial {trial.number} of {trial.n_trials}: p {trial.p:g}, weight decay "
        f"{trial.weight_decay:g}: {outcome}",
        "data": {
            "trial": trial.number,
            "trials": trial.n_trials,
            "p": trial.p,
            "weight_decay": trial.weight_decay,
            "nll": trial.nll,
        },
    }
