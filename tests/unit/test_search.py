"""Choosing p: the rows judge, the seed decides, and what was done is not done again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models import MLPConfig
from models.errors import TrainingError
from models.recipe import Recipe, prepare
from models.search import (
    FIRST_P,
    Budget,
    Trial,
    choose_dropout,
    default_budget,
    make_folds,
    search,
)
from models.training_run import Split, TrainingOptions

OPTIONS = TrainingOptions(epochs=40, batch_size=32)
BUDGET = Budget(rounds=2, n_folds=2, epochs_share=0.5)
CONFIG = MLPConfig(2, 1, (64,))


def rows(n: int, noise: float) -> Split:
    """A wave in one of two inputs, and so much noise, standardised together."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=generator)
    y = torch.sin(3 * x[:, 0]) + noise * torch.randn(n, generator=generator)
    return Split(x, (y - y.mean()) / y.std())


def run(data: Split = rows(80, 0.5), **more: object) -> list[Trial]:  # noqa: B008
    folds = make_folds(len(data), BUDGET.n_folds, 0)
    return list(search(CONFIG, data, folds, OPTIONS, BUDGET, **more).trials)


def test_folds_judge_every_row_once_and_none_they_train_on() -> None:
    folds = make_folds(103, 5, seed=1)
    assert sorted(torch.cat([fold.judging for fold in folds]).tolist()) == list(range(103))
    assert {len(fold.training) for fold in folds} == {82}
    for fold in folds:
        assert not set(fold.training.tolist()) & set(fold.judging.tolist())


def test_a_search_starts_at_the_default_and_repeats_itself() -> None:
    told: list[Trial] = []
    trials = run(on_trial=told.append)
    assert told == trials == run()
    assert [trial.number for trial in trials] == list(range(1, BUDGET.n_trials + 1))
    assert [trial.p for trial in trials[: len(FIRST_P)]] == list(FIRST_P)
    assert {trial.weight_decay for trial in trials[: len(FIRST_P)]} == {0.01}
    assert len({(trial.p, trial.weight_decay) for trial in trials}) > len(FIRST_P)


def test_clean_data_want_less_dropout_than_noisy() -> None:
    options = replace(OPTIONS, epochs=100, learning_rate=1e-2)
    chosen = {}
    for noise, n in ((0.0, 300), (3.0, 60)):
        data = rows(n, noise)
        best = search(CONFIG, data, make_folds(n, 2, 0), options, BUDGET).best
        chosen[noise] = best.p
    assert chosen[0.0] < 0.05
    assert chosen[3.0] > 0.1


def test_a_search_that_was_cut_off_goes_on_to_the_same_end(tmp_path: Path) -> None:
    record = tmp_path / "search.json"
    whole = run(record=record)
    entries = json.loads(record.read_text())
    assert len(entries) == BUDGET.n_trials
    record.write_text(json.dumps(entries[: len(FIRST_P)]))
    told: list[Trial] = []
    assert run(record=record, on_trial=told.append) == whole
    assert told == whole[len(FIRST_P) :]
    told.clear()
    assert run(record=record, on_trial=told.append) == whole
    assert told == []


def test_a_record_of_other_settings_does_not_count(tmp_path: Path) -> None:
    record = tmp_path / "search.json"
    trials = run(record=record)
    text = record.read_text().replace('"p": 0.01,', '"p": 0.011,')
    record.write_text(text.replace(str(trials[0].nll), "-99.0"))
    assert run(record=record) == trials


def test_the_likelihood_is_that_of_the_judging_rows() -> None:
    """On pure noise no model beats the standard normal: 1.42 nats, up to its own error; and one
    that was judged by the rows it learned would."""
    generator = torch.Generator().manual_seed(3)
    data = Split(torch.randn(400, 2, generator=generator), torch.randn(400, generator=generator))
    scores = [trial.nll for trial in run(data)]
    expected = 0.5 * np.log(2 * np.pi) + 0.5 * data.y.square().mean().item()
    assert all(expected - 0.02 < nll < expected + 0.4 for nll in scores if nll is not None)


def test_training_that_diverges_everywhere_says_so() -> None:
    data = rows(60, 0.1)
    options = replace(OPTIONS, learning_rate=1e30, gradient_clip=None)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        search(CONFIG, data, make_folds(60, 2, 0), options, BUDGET)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "dropconnect"])
def test_a_recipe_gets_one_p_for_all_layers(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=90)
    table = pa.table({"x": x, "y": np.where(x + rng.normal(size=90) > 0, "up", "down")})
    training = replace(OPTIONS, epochs=4)
    recipe = Recipe("y", hidden=(8, 4), dropout=kind, p="auto", training=training)  # type: ignore[arg-type]
    prepared, chosen, choice = choose_dropout(prepare(table, recipe), recipe)
    best = choice.best
    assert best.nll == min(trial.nll for trial in choice.trials if trial.nll is not None)
    assert prepared.config.layer_p == (best.p, best.p)
    assert (chosen.p, chosen.training.weight_decay) == (best.p, best.weight_decay)
    assert replace(chosen, p="auto", training=training) == recipe


def test_calibration_rows_are_not_seen() -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=90), "y": rng.normal(size=90)})
    recipe = Recipe("y", hidden=(8,), p="auto", training=replace(OPTIONS, epochs=4))
    prepared = prepare(table, recipe)
    nonsense = Split(prepared.calibration.x * 100, prepared.calibration.y * 100)
    other = replace(prepared, calibration=nonsense)
    assert choose_dropout(prepared, recipe)[2] == choose_dropout(other, recipe)[2]


def test_many_rows_are_judged_by_the_validation_rows_alone() -> None:
    assert (default_budget(4_999).n_folds, default_budget(5_000).n_folds) == (4, 1)


def test_concrete_dropout_is_not_searched() -> None:
    recipe = Recipe("y", dropout="concrete", p="auto")
    assert not recipe.is_searched
    table = pa.table({"x": np.arange(90.0) ** 1.5, "y": np.random.default_rng(0).normal(size=90)})
    assert prepare(table, recipe).config.layer_p == (0.1, 0.1)
    assert replace(recipe, dropout="bernoulli").is_searched
