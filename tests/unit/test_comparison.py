"""Two versions on the same rows: which they can be compared on, and what is said of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from models import Artifact, save_artifact
from models.comparison import encode_rows, find_unlearned, proper_score
from models.recipe import Prepared, Recipe, finish, prepare
from models.training import fit
from service.comparison import LEAST_FAIR_ROWS, judge
from service.recipes import make_recipe
from service.schemas import TrainingJobRequest

REQUEST = TrainingJobRequest(
    model="m", dataset="d", target="y", seed=0,
    hyperparameters={"hidden": [16], "epochs": 12, "batch_size": 32, "early_stopping_patience": 12},
).model_dump()  # fmt: skip
RECIPE = make_recipe(REQUEST, "cpu")


def noisy_table(n: int, seed: int = 0) -> pa.Table:
    """The first rows are the same for any n; each is there once, and `id` says which it is."""
    rng = np.random.default_rng(seed)
    x, z, noise = rng.normal(size=(n, 3)).T
    kind = np.where(z > 0, "up", "down")
    return pa.table({"id": [f"r{i}" for i in range(n)], "x": x, "k": kind, "y": 3 * x + noise})


def train(table: pa.Table, recipe: Recipe = RECIPE) -> tuple[Artifact, Prepared]:
    prepared = prepare(table, recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, recipe.training)
    return finish(prepared, fitted, "2026-07-28T00:00:00Z", {}), prepared


@pytest.fixture(scope="module")
def production() -> tuple[Artifact, Prepared]:
    return train(noisy_table(400))


def test_a_proper_score_tells_the_better_of_two(production: tuple[Artifact, Prepared]) -> None:
    good, prepared = production
    poor, _ = train(noisy_table(400), replace(RECIPE, training=replace(RECIPE.training, epochs=1)))
    scores = [
        proper_score(artifact, encode_rows(artifact, prepared.held_out))
        for artifact in (good, poor)
    ]
    assert scores[0] < scores[1]
    assert scores[0] == pytest.approx(good.metrics["mc_mode"]["nll"], rel=1e-5)


def test_rows_that_do_not_fit_are_not_compared(production: tuple[Artifact, Prepared]) -> None:
    artifact, _ = production
    rows = noisy_table(50)
    assert encode_rows(artifact, rows.rename_columns(["id", "x", "k", "other"])) is None
    assert encode_rows(artifact, rows.rename_columns(["id", "other", "k", "y"])) is None
    words = rows.set_column(1, "x", pa.array(["a"] * 50))
    assert encode_rows(artifact, words) is None


def test_a_row_is_known_wherever_it_stands(production: tuple[Artifact, Prepared]) -> None:
    """More rows, in another order, split by another seed: those learned from are found by what
    stands in them, and those held out are not among them."""
    artifact, prepared = production
    grown = noisy_table(400).take(np.random.default_rng(3).permutation(400))
    grown = pa.concat_tables([grown, noisy_table(100, seed=1)])
    held_out = prepare(grown, replace(RECIPE, seed=5)).held_out
    held_before = set(prepared.held_out["id"].to_pylist())
    old = set(map(str, noisy_table(400)["x"].to_pylist()))
    expected = [
        str(row["x"]) not in old or row["id"] in held_before for row in held_out.to_pylist()
    ]
    assert 0 < sum(expected) < len(expected)
    found = find_unlearned(artifact, prepared, encode_rows(artifact, held_out))
    assert found.tolist() == expected


def test_what_stands_twice_in_a_table_was_held_out_if_one_of_them_was() -> None:
    table = pa.concat_tables([noisy_table(100)] * 2)
    artifact, prepared = train(table)
    found = find_unlearned(artifact, prepared, encode_rows(artifact, prepared.held_out))
    assert found.all()


def test_splits_that_are_not_its_own_are_noticed(production: tuple[Artifact, Prepared]) -> None:
    artifact, prepared = production
    other = prepare(noisy_table(400), replace(RECIPE, seed=1))
    rows = encode_rows(artifact, prepared.held_out)
    assert find_unlearned(artifact, replace(other, schema=prepared.schema), rows) is None


@pytest.fixture(scope="module")
def rival(
    production: tuple[Artifact, Prepared], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rival")
    save_artifact(production[0], folder / "artifact")
    file = folder / "data.csv"
    pyarrow.csv.write_csv(noisy_table(400), file)
    learned = {"request": REQUEST, "file": str(file), "format": "csv"}
    return {"version": 7, "folder": str(folder / "artifact"), "learned": learned}


def test_a_comparison_says_on_which_rows(
    production: tuple[Artifact, Prepared], rival: dict[str, Any]
) -> None:
    artifact, prepared = production
    verdict = judge(artifact, prepared.held_out, "if_better", rival)
    assert (verdict.promote, verdict.rival) == (False, 7), "it is no better than itself"
    n = prepared.held_out.num_rows
    assert f"on the same {n} held-out rows that neither has learned from" in verdict.reason
    score = verdict.comparison["own"]
    assert verdict.comparison == {
        "version": 7, "score": "negative_log_likelihood", "rows": n,
        "own": score, "other": score, "is_fair": True,
    }  # fmt: skip
    assert f"{score:.4f} against {score:.4f} of version 7" in verdict.reason


def test_rows_that_the_other_has_learned_from_are_set_aside(rival: dict[str, Any]) -> None:
    """A network that knows those rows by heart would win on them."""
    grown = pa.concat_tables([noisy_table(400), noisy_table(200, seed=1)])
    artifact, prepared = train(grown, replace(RECIPE, seed=5))
    verdict = judge(artifact, prepared.held_out, "if_better", rival)
    assert LEAST_FAIR_ROWS <= verdict.comparison["rows"] < prepared.held_out.num_rows
    assert verdict.comparison["is_fair"]


def test_a_comparison_that_cannot_be_fair_says_so(
    production: tuple[Artifact, Prepared], rival: dict[str, Any], tmp_path: Path
) -> None:
    artifact, prepared = production
    other = prepare(noisy_table(400), replace(RECIPE, seed=1)).held_out
    verdict = judge(artifact, other, "if_better", rival)
    assert not verdict.comparison["is_fair"]
    assert verdict.comparison["rows"] == other.num_rows
    assert "version 7 has learned from" in verdict.reason
    gone = {**rival["learned"], "file": str(tmp_path / "gone.csv")}
    for learned in (None, gone):
        found = judge(artifact, prepared.held_out, "if_better", rival | {"learned": learned})
        assert not found.comparison["is_fair"]
        assert "what it learned from is not here" in found.reason
