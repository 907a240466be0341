"""Fitting that is interrupted, and goes on from its checkpoint to the same bits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import TrainingError
from models.training import fit
from models.training_run import Epoch, Split, TrainingOptions
from tests.unit.splits import KINDS, SMALL, regression


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_an_interrupted_run_ends_in_the_same_bits(kind: str, schedule: str, tmp_path: Path) -> None:
    training, validation = regression(200)
    config = replace(SMALL, dropout=kind, input_p=0.1)
    options = TrainingOptions(epochs=12, batch_size=32, schedule=schedule, max_norm=2.0)
    whole = fit(config, training, validation, options)

    class InterruptedRunError(Exception):
        pass

    def interrupt(epoch: Epoch) -> None:
        if epoch.epoch in (3, 8):
            raise InterruptedRunError

    checkpoint = tmp_path / "checkpoint"
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            fit(config, training, validation, options, on_epoch=interrupt, checkpoint=checkpoint)
    resumed = fit(config, training, validation, options, checkpoint=checkpoint)
    assert resumed.history == whole.history
    for a, b in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(a, b)
    again = fit(config, training, validation, options, checkpoint=checkpoint)
    assert again.history == whole.history, "a finished run is not run again"


def test_epochs_since_the_last_checkpoint_are_run_again(tmp_path: Path) -> None:
    training, validation = regression(200)
    options = TrainingOptions(epochs=10, batch_size=32)
    due = iter([False, False, True] + [False] * 20)
    seen: list[int] = []

    def interrupt(epoch: Epoch) -> None:
        seen.append(epoch.epoch)
        if len(seen) == 5:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit(
            SMALL, training, validation, options,
            on_epoch=interrupt, checkpoint=path, should_checkpoint=lambda: next(due),
        )  # fmt: skip
    result = fit(SMALL, training, validation, options, on_epoch=interrupt, checkpoint=path)
    assert seen == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 10]
    assert result.history == fit(SMALL, training, validation, options).history


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    training, validation = regression(200)
    path = tmp_path / "checkpoint"
    fit(SMALL, training, validation, TrainingOptions(epochs=2), checkpoint=path)
    for config, data, options in (
        (SMALL, training, TrainingOptions(epochs=3)),
        (replace(SMALL, p=0.2), training, TrainingOptions(epochs=2)),
        (SMALL, Split(training.x + 1, training.y), TrainingOptions(epochs=2)),
    ):
        with pytest.raises(TrainingError) as caught:
            fit(config, data, validation, options, checkpoint=path)
        assert caught.value.code == "checkpoint_mismatch"


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    training, validation = regression(200)
    path = tmp_path / "checkpoint"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0 not a safetensors file")
    with pytest.raises(TrainingError) as caught:
        fit(SMALL, training, validation, TrainingOptions(epochs=2), checkpoint=path)
    assert caught.value.code == "damaged_checkpoint"
