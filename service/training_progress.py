"""What a job's events say of its epochs and trials, and when they will be over."""

from __future__ import annotations

import time
from typing import Any

from models.search import Trial
from models.training_run import Epoch


class Clock:
    """When the last checkpoint was, and how long the epochs to come will take."""

    def __init__(self, checkpoint_seconds: float) -> None:
        self._interval = checkpoint_seconds
        self._last = time.monotonic()
        self._first_epoch = 0.0
        self._epochs = 0

    def is_due(self) -> bool:
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
