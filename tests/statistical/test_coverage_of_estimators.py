"""Intervals and sets hold for every estimator and number of samples, not only for those that
the calibration was made with."""

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.artifact import Artifact
from models.conformal import row_uniforms
from models.draw import Draw
from models.estimators import estimate
from models.recipe import Recipe, finish, prepare
from models.sampling import make_plan
from models.training import fit
from models.training_run import TrainingOptions
from tests.statistical.moments import Z_BOUND

N_FRESH = 3000


def table(n_rows: int, seed: int, task: str) -> pa.Table:
    """A curve in noise that grows along it, or three classes that overlap."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-2, 2, n_rows), rng.uniform(-2, 2, n_rows)
    y = np.sin(2 * a) + 0.5 * b + rng.normal(size=n_rows) * (0.2 + 0.1 * np.abs(a))
    if task == "classification":
        y = np.array(["low", "middle", "high"])[np.digitize(y, [-0.4, 0.5])]
    return pa.table({"a": a, "b": b, "y": y})


@cache
def trained(task: str) -> Artifact:
    options = TrainingOptions(epochs=30)
    recipe = Recipe("y", hidden=(96, 96), p=0.3, training=options, calibration_fraction=0.4)
    prepared = prepare(table(1500, 0, task), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    return finish(prepared, fitted, "2026-01-01T00:00:00Z", {})


@cache
def covered(task: str, estimator: str, n_samples: int) -> np.ndarray:
    """Which fresh rows (N,) lie in their 90 % intervals or (exact) sets."""
    artifact = trained(task)
    target, fresh = artifact.schema.target, table(N_FRESH, 1, task)
    x = artifact.encode(fresh.select(["a", "b"]).to_pylist())
    draw = Draw(n_samples, seed=5, estimator=estimator)
    drawn = estimate(make_plan(artifact.network), target, x, draw)
    calibration = artifact.calibration.at(drawn.textbook_samples)
    if task == "classification":
        truth = np.array([target.labels.index(y) for y in fresh["y"].to_pylist()])
        sets = calibration.exact_set(drawn.summary.probabilities, 0.9, row_uniforms(x, 5))
        return sets[np.arange(N_FRESH), truth]
    low, high = calibration.interval(drawn.summary, 0.9)
    truth = fresh["y"].to_numpy()
    return (low <= truth) & (truth <= high)


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("n_samples", [2, 5, 25, 100, 400])
@pytest.mark.parametrize("estimator", ["auto", "stratified", "control_variate", "analytic"])
def test_coverage_is_that_of_textbook_samples(task: str, n_samples: int, estimator: str) -> None:
    """Beside 100 textbook samples on the same fresh rows: no less but by chance (of the rows
    that the two judge differently), and little more; few samples may be cautious."""
    torch.manual_seed(0)
    reference, found = covered(task, "mc", 100), covered(task, estimator, n_samples)
    gain = found.astype(float) - reference
    error = max(gain.std() / N_FRESH**0.5, 1e-4)
    assert gain.mean() > -Z_BOUND * error
    assert gain.mean() < 0.04
    assert abs(reference.mean() - 0.9) < Z_BOUND * (0.09 / 600 + 0.09 / N_FRESH) ** 0.5
