"""Folds: every row held out once, by a network that has not learned from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.cross_conformal import LEAST_ROWS_FOR_SPLIT, fit_fold, fit_folds, folds_of
from models.errors import DataError
from models.recipe import Recipe, finish, prepare
from models.training import fit
from models.training_run import TrainingOptions

RECIPE = Recipe("y", hidden=(16,), training=TrainingOptions(epochs=8, batch_size=32))


def distinct(n: int) -> np.ndarray:
    """Numbers that tell rows apart after rounding."""
    return np.random.default_rng(0).permutation(n) / n * 5.0 + 0.001


def numbers(n: int) -> pa.Table:
    x = distinct(n)
    return pa.table({"x": x, "y": x + np.random.default_rng(1).normal(size=n)})


def classes(n: int) -> pa.Table:
    x = distinct(n)
    return pa.table({"x": x, "y": np.where(x > 4.0, "rare", "usual").astype(object)})


def folds(table: pa.Table, recipe: Recipe = RECIPE) -> list:
    n_folds = folds_of(prepare(table, recipe), replace(recipe, calibration="cross"))
    return [prepare(table, recipe, fold) for fold in range(n_folds)]


@pytest.mark.parametrize("n", [35, 60, 300, 344])
@pytest.mark.parametrize("make", [numbers, classes])
def test_every_row_is_held_out_once_and_never_learned_from_there(make, n: int) -> None:
    table = make(n)
    places = []
    for prepared in folds(table):
        held_out = prepared.held_out["x"].to_pylist()
        mean, std = prepared.schema.features[0].mean, prepared.schema.features[0].std
        splits = (prepared.training, prepared.validation, prepared.calibration)
        rows = [set((split.x[:, 0].double() * std + mean).numpy().round(4)) for split in splits]
        assert rows[2] == set(np.round(held_out, 4))
        assert not rows[0] & rows[1]
        assert not rows[2] & (rows[0] | rows[1])
        assert sum(map(len, rows)) == n
        places += held_out
    assert sorted(places) == sorted(table["x"].to_pylist())


def test_the_first_fold_is_the_split_and_the_others_train_on_as_many_rows() -> None:
    every = folds(numbers(344))
    assert len(every) == 6
    assert torch.equal(every[0].training.x, prepare(numbers(344), RECIPE).training.x)
    sizes = [len(prepared.training) for prepared in every]
    assert sizes[0] == 258
    assert all(250 <= size <= 258 for size in sizes)


def test_classes_have_equal_shares_in_every_fold() -> None:
    shares = [p.calibration.y.double().mean().item() for p in folds(classes(300))]
    assert max(shares) - min(shares) < 0.05


@pytest.mark.parametrize(
    ("calibration", "n", "expected"),
    [
        ("auto", LEAST_ROWS_FOR_SPLIT - 1, 6),
        ("auto", LEAST_ROWS_FOR_SPLIT, 1),
        ("split", 100, 1),
        ("cross", LEAST_ROWS_FOR_SPLIT, 6),
    ],
)
def test_few_rows_are_calibrated_across_folds(calibration: str, n: int, expected: int) -> None:
    recipe = replace(RECIPE, calibration=calibration)
    assert folds_of(prepare(numbers(n), recipe), recipe) == expected


def test_a_large_table_is_not_cut_into_folds() -> None:
    recipe = replace(RECIPE, calibration="cross")
    with pytest.raises(DataError, match="up to 10000 rows, and these are 10001") as caught:
        folds_of(prepare(numbers(10_001), recipe), recipe)
    assert (caught.value.code, caught.value.param) == ("too_many_rows_for_cross", "calibration")


def test_a_small_fraction_does_not_make_a_hundred_folds() -> None:
    recipe = replace(RECIPE, calibration_fraction=0.01)
    assert folds_of(prepare(numbers(900), recipe), recipe) == 10
    sizes = [len(prepared.calibration) for prepared in folds(numbers(900), recipe)]
    assert (sizes[0], sum(sizes)) == (10, 900)


def test_an_interrupted_fold_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    table = numbers(100)
    _, whole = fit_fold(table, RECIPE, 2)

    class StoppedError(Exception):
        pass

    def interrupt() -> bool:
        interrupt.epochs += 1
        if interrupt.epochs == 5:
            raise StoppedError
        return True

    interrupt.epochs = 0
    checkpoint = tmp_path / "fold-2.safetensors"
    with pytest.raises(StoppedError):
        fit_fold(table, RECIPE, 2, checkpoint=checkpoint, should_checkpoint=interrupt)
    for _ in range(2):  # the second time there is nothing left to do
        _, resumed = fit_fold(table, RECIPE, 2, checkpoint=checkpoint)
        for name, value in whole.network.state_dict().items():
            assert torch.equal(resumed.network.state_dict()[name], value)


@pytest.mark.parametrize("make", [numbers, classes])
def test_the_artifact_is_calibrated_on_all_rows_and_measured_on_its_own(make) -> None:
    table = make(150)
    prepared = prepare(table, RECIPE)
    fitted = fit(prepared.config, prepared.training, prepared.validation, RECIPE.training)
    n_folds = folds_of(prepared, RECIPE)
    told: list[int] = []
    others = fit_folds(table, RECIPE, n_folds, on_fold=lambda number, _: told.append(number))
    assert told == list(range(2, n_folds + 1))
    split, cross = (finish(prepared, fitted, "", {}, f) for f in ((), others))
    assert (split.calibration.folds, cross.calibration.folds) == (1, n_folds)
    assert len(split.calibration.finest.scores) == len(prepared.calibration)
    assert len(cross.calibration.finest.scores) == 150
    assert cross.metrics["mc_mode"] == split.metrics["mc_mode"]
    assert cross.metrics["out_of_fold"]["rows"] == 150
    assert "out_of_fold" not in split.metrics
    for name, value in split.network.state_dict().items():
        assert torch.equal(cross.network.state_dict()[name], value)
    # The served network's own scores are among the pooled ones.
    own = split.calibration.finest
    same = cross.calibration.finest
    if own.score == same.score:
        assert np.isin(own.scores.round(9), same.scores.round(9)).all()
