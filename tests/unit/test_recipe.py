"""From table to artifact: splits, noise, calibration, and comparing two versions."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from models import Artifact, load_artifact, save_artifact
from models.draw import Draw
from models.errors import DataError
from models.estimators import estimate
from models.recipe import Recipe, finish, prepare
from models.sampling import make_plan
from models.training import fit
from models.training_run import TrainingOptions

FAST = TrainingOptions(epochs=25, batch_size=32)
RECIPE = Recipe("y", hidden=(32, 32), training=FAST)


def noisy_table(n: int = 600, seed: int = 0) -> pa.Table:
    """y = 3x + noise of std 2: known aleatoric std."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, n)
    return pa.table({"x": x, "z": rng.normal(size=n), "y": 3 * x + 2 * rng.normal(size=n)})


def class_table(n: int = 400) -> pa.Table:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 2))
    labels = np.where(x[:, 0] + 0.5 * rng.normal(size=n) > 1.0, "rare", "usual").astype(object)
    labels[:2] = "once upon a time"
    return pa.table({"a": x[:, 0], "b": x[:, 1], "y": labels})


def train(table: pa.Table, recipe: Recipe = RECIPE) -> Artifact:
    prepared = prepare(table, recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, recipe.training)
    return finish(prepared, fitted, "2026-01-01T00:00:00Z", {})


@pytest.fixture(scope="module")
def noisy() -> Artifact:
    """Of 2,000 rows, which no test changes."""
    return train(noisy_table(2000))


def test_splits_are_disjoint_complete_and_decided_by_the_seed() -> None:
    table = pa.table({"x": np.arange(200.0) * 1.5, "y": np.random.default_rng(0).normal(size=200)})
    first, same, other = (prepare(table, replace(RECIPE, seed=s)) for s in (0, 0, 1))
    sizes = (len(first.training), len(first.validation), len(first.calibration))
    assert sizes == (150, 20, 30)
    rows = torch.cat([first.training.x, first.validation.x, first.calibration.x])[:, 0]
    assert rows.unique().numel() == 200
    assert torch.equal(first.training.x, same.training.x)
    assert not torch.equal(first.training.x, other.training.x)
    assert first.held_out.num_rows == 30


def test_classes_have_equal_shares_in_every_split_and_none_is_lost_to_training() -> None:
    prepared = prepare(class_table(), RECIPE)
    labels = prepared.schema.target.labels
    assert set(labels) == {"rare", "usual", "once upon a time"}
    shares = [
        torch.bincount(split.y, minlength=3) / len(split)
        for split in (prepared.training, prepared.validation, prepared.calibration)
    ]
    usual = labels.index("usual")
    assert max(s[usual] for s in shares) - min(s[usual] for s in shares) < 0.03
    assert torch.bincount(prepared.training.y, minlength=3).min() >= 1


def test_rows_without_a_target_do_not_count() -> None:
    table = noisy_table(100)
    holes = table.append_column("t", pa.array([None] * 60 + [float(i) for i in range(40)]))
    prepared = prepare(holes, replace(RECIPE, target="t"))
    total = len(prepared.training) + len(prepared.validation) + len(prepared.calibration)
    assert total == 40


def test_too_few_rows_say_how_many_are_needed() -> None:
    with pytest.raises(DataError, match="at least 35 rows are needed") as caught:
        prepare(noisy_table(34), RECIPE)
    assert caught.value.code == "too_few_rows"
    prepare(noisy_table(35), RECIPE)


def test_known_noise_is_found_and_adds_up(noisy: Artifact) -> None:
    """The total std within 15 % of 2, the noise alone within 25 %, and below the total."""
    x = noisy.encode([{"x": v, "z": 0.0} for v in (-2.0, 0.0, 2.0)])
    drawn = estimate(make_plan(noisy.network), noisy.schema.target, x, Draw())
    summary = drawn.summary
    np.testing.assert_allclose(summary.std, 2.0, rtol=0.15)
    np.testing.assert_allclose(summary.aleatoric_std, 2.0, rtol=0.25)
    np.testing.assert_allclose(summary.mean, [-6.0, 0.0, 6.0], atol=0.6)
    assert (summary.std > np.maximum(summary.aleatoric_std, summary.epistemic_std)).all()


def test_metrics_are_of_rows_that_were_held_out(noisy: Artifact) -> None:
    assert noisy.metrics["rows"] == {"training": 1500, "validation": 200, "calibration": 300}
    for mode in ("eval_mode", "mc_mode"):
        assert 1.7 < noisy.metrics[mode]["rmse"] < 2.4
        # The density of normal noise with std 2 has this entropy.
        assert noisy.metrics[mode]["nll"] == pytest.approx(np.log(2) + 1.419, abs=0.15)
    finest = noisy.calibration.finest
    std = 1.0 if finest.score == "scaled" else 2.0  # what a score of 1 stands for
    assert finest.quantile(0.9) / std == pytest.approx(1.645, abs=0.25)


def test_classification_metrics() -> None:
    artifact = train(class_table())
    for mode in ("eval_mode", "mc_mode"):
        assert artifact.metrics[mode]["accuracy"] > 0.8
        assert 0.0 < artifact.metrics[mode]["nll"] < 0.6
    assert artifact.calibration.finest.measure == "entropy"


def test_the_same_recipe_gives_the_same_artifact(tmp_path) -> None:
    for name in ("a", "b"):
        save_artifact(train(class_table()), tmp_path / name)
    assert load_artifact(tmp_path / "a").sha256 == load_artifact(tmp_path / "b").sha256


def test_without_dropout_there_is_still_a_calibrated_model() -> None:
    artifact = train(noisy_table(), replace(RECIPE, p=0.0))
    assert artifact.calibration.finest.quantile(0.9) > 0
    assert not make_plan(artifact.network).is_stochastic
