"""The curves and the excerpt that a version shows: true of its rows, and bounded."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from models.evidence import LEVELS, excerpt_rows, gather
from models.held_out import HeldOut
from models.recipe import Recipe, finish, prepare
from models.table import Target, softmax
from models.training import fit
from models.training_run import TrainingOptions
from tests.unit.test_report import class_part, regression_part

RECIPE = Recipe("y", hidden=(16,), training=TrainingOptions(epochs=4, batch_size=64))


def shifted(part: HeldOut, by: float) -> HeldOut:
    return replace(part, truth=part.truth + by)


def test_a_calibrated_regression_lies_on_the_diagonal() -> None:
    part = regression_part(4000)
    report = gather([part], dropout=True, score="scaled", with_rows=True)
    observed = [point["observed"] for point in report["calibration"]]
    assert [point["level"] for point in report["calibration"]] == list(LEVELS)
    # 4.27 standard deviations of a share of 4,000 rows.
    np.testing.assert_allclose(observed, LEVELS, atol=4.27 * 0.5 / 4000**0.5)
    for point in report["coverage"]:
        # Cross-fitted halves: the quantile is itself of 2,000 rows.
        assert point["coverage"] == pytest.approx(point["nominal"], abs=0.035)
    assert (report["rows"], report["mode"]) == (4000, "mc_dropout")


def test_truth_above_all_that_was_expected_lies_below_no_quantile() -> None:
    report = gather([shifted(regression_part(50), 100.0)], dropout=False, score="scaled",
                    with_rows=False)  # fmt: skip
    assert {point["observed"] for point in report["calibration"]} == {0.0}
    assert "residuals" not in report


def test_residuals_are_predictions_beside_the_truth_of_the_same_row() -> None:
    part = replace(regression_part(2000), truth=np.arange(2000.0))
    residuals = gather([part], dropout=True, score="scaled", with_rows=True)["residuals"]
    assert {name: len(values) for name, values in residuals.items()} == {
        "prediction": 500, "truth": 500, "std": 500,
    }  # fmt: skip
    means = part.drawn[..., 0].mean(axis=0)
    rows = [int(value) for value in residuals["truth"]]
    np.testing.assert_allclose(residuals["prediction"], means[rows], rtol=1e-5)


def test_confusion_and_reliability_are_those_of_scikit_learn() -> None:
    part = class_part(1500)
    report = gather([part], dropout=True, score="raps", with_rows=False)
    probabilities = softmax(part.drawn).mean(axis=0)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    assert report["confusion"]["labels"] == ["a", "b", "c"]
    assert report["confusion"]["counts"] == confusion_matrix(part.truth, predicted).tolist()
    accuracy, mean = calibration_curve(predicted == part.truth, confidence, n_bins=10)
    shown = report["calibration"]
    np.testing.assert_allclose([point["accuracy"] for point in shown], accuracy, rtol=1e-5)
    np.testing.assert_allclose([point["confidence"] for point in shown], mean, rtol=1e-5)
    assert sum(point["rows"] for point in shown) == 1500


def test_many_classes_have_no_matrix() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 60, 51))
    target = Target("y", tuple(f"c{i}" for i in range(51)))
    part = HeldOut(target, logits[:1], logits, np.arange(60) % 51, np.zeros(60))
    report = gather([part], dropout=True, score="lac", with_rows=True)
    assert "confusion" not in report
    assert sum(point["rows"] for point in report["calibration"]) == 60


def table(n: int = 300, columns: int = 2) -> pa.Table:
    rng = np.random.default_rng(0)
    numbers = {f"x{i}": rng.normal(size=n) for i in range(columns)}
    city = [None if i % 7 == 0 else ("Bern", "Oslo")[i % 2] for i in range(n)]
    return pa.table(numbers | {"city": city, "y": rng.normal(size=n)})


def test_the_excerpt_is_of_training_rows_and_can_be_sent_as_it_is() -> None:
    data = table()
    prepared = prepare(data, RECIPE)
    assert len(prepared.excerpt) == 200
    assert len({row[0] for row in prepared.excerpt}) == 200
    held_out = set(prepared.held_out.column("x0").to_pylist())
    rows = {(r["x0"], r["x1"], r["city"]) for r in data.to_pylist()}
    assert {tuple(row) for row in prepared.excerpt} <= rows
    assert not held_out & {row[0] for row in prepared.excerpt}
    encoded = prepared.schema.encode(prepared.excerpt).inputs
    training = {tuple(row) for row in prepared.training.x.tolist()}
    assert {tuple(row) for row in encoded.tolist()} <= training


def test_the_excerpt_of_a_wide_table_has_fewer_rows() -> None:
    data = table(n=100, columns=399)
    prepared = prepare(data, RECIPE)
    n_features = len(prepared.schema.features)
    assert n_features == 400
    assert len(excerpt_rows(data, np.arange(100), prepared.schema, seed=1)) == 50
    assert len(prepared.excerpt) == 50


@pytest.mark.parametrize("keeps", [True, False])
def test_nothing_of_single_rows_is_kept_where_that_is_not_wished(keeps: bool) -> None:
    recipe = replace(RECIPE, keep_excerpt=keeps)
    prepared = prepare(table(), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, recipe.training)
    artifact = finish(prepared, fitted, "2026-01-01T00:00:00Z", {})
    assert ("excerpt" in artifact.report) is keeps
    assert ("residuals" in artifact.report) is keeps
    assert artifact.card()["report"] == artifact.report
    # The same rows in eval mode, as the figures of the whole calibration split have it.
    whole = artifact.metrics["eval_mode"]
    assert artifact.report["weight_scaling"]["rmse"] == pytest.approx(whole["rmse"], rel=1e-6)
    assert artifact.report["weight_scaling"]["nll"] == pytest.approx(whole["nll"], rel=1e-6)
    assert len(json.dumps(artifact.report)) < 100_000
