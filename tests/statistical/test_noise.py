"""Aleatoric noise: found where it is known, and added to the epistemic part as variances."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from models import Artifact
from models.draw import Draw
from models.estimators import estimate
from models.recipe import Recipe, finish, prepare
from models.sampling import make_plan, sample
from models.training import fit
from models.training_run import TrainingOptions
from models.uncertainty import RegressionSummary, to_gaussians
from tests.statistical.moments import Z_BOUND

Noise = Callable[[np.ndarray], np.ndarray]


def loud_and_quiet(z: np.ndarray) -> np.ndarray:
    """Noise of std 0.4 at z = -0.9 to 2.5 at z = 0.9."""
    return np.asarray(np.exp(z))


def constant(z: np.ndarray) -> np.ndarray:
    return np.full_like(z, 2.0)


def rows(n: int, noise: Noise, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, 2) of which the second rules the noise, and y = 4 sin x + noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform((-2, -1), (2, 1), (n, 2))
    return x, 4.0 * np.sin(x[:, 0]) + noise(x[:, 1]) * rng.normal(size=n)


def train(noise: Noise) -> Artifact:
    x, y = rows(3000, noise, 0)
    options = TrainingOptions(epochs=40, batch_size=64)
    recipe = Recipe("y", hidden=(64, 64), p=0.05, training=options)
    prepared = prepare(pa.table({"x": x[:, 0], "z": x[:, 1], "y": y}), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    return finish(prepared, fitted, "", {})


def ask(artifact: Artifact, x: np.ndarray) -> RegressionSummary:
    target = artifact.schema.target
    found = estimate(make_plan(artifact.network), target, artifact.encode(x.tolist()), Draw())
    assert isinstance(found.summary, RegressionSummary)
    return found.summary


@pytest.fixture(scope="module")
def loud() -> Artifact:
    return train(loud_and_quiet)


def test_noise_that_differs_between_rows_is_found(loud: Artifact) -> None:
    """Within 25 % of the truth (root mean square over rows), correlated with it by 0.9, and
    2.5 times as large in the loudest fifth of rows as in the quietest: in truth 4.2 times."""
    x, _ = rows(300, loud_and_quiet, 1)
    x *= 0.9
    found, true = ask(loud, x).aleatoric_std, loud_and_quiet(x[:, 1])
    ratio = found / true
    assert np.sqrt(np.mean(np.log(ratio) ** 2)) < 0.25
    assert ratio.mean() == pytest.approx(1.0, abs=0.15)
    order = np.argsort(x[:, 1])
    assert np.corrcoef(found, true)[0, 1] > 0.9
    assert found[order[-60:]].mean() > 2.5 * found[order[:60]].mean()


def test_constant_noise_is_found() -> None:
    """Its scale is set by 300 validation rows: a standard error of 1/√600 = 4.1 %."""
    x, _ = rows(300, constant, 1)
    found = ask(train(constant), 0.9 * x).aleatoric_std
    assert found.mean() == pytest.approx(2.0, rel=Z_BOUND / np.sqrt(600))
    assert found.max() < 1.2 * found.mean()


def test_total_variance_is_that_of_values_drawn_from_the_predictive_distribution(
    loud: Artifact,
) -> None:
    """Draw a thinned network, then noise: 20,000 values for each of 20 rows. Both parts are
    estimated from the same samples, so that only the noise differs by chance."""
    x, _ = rows(20, loud_and_quiet, 2)
    plan, target = make_plan(loud.network), loud.schema.target
    raw = sample(plan, loud.encode(x.tolist()), seed=0, n_samples=100).double().numpy()
    means, variances = to_gaussians(target, raw)
    rng = np.random.default_rng(3)
    which = np.arange(20_000) % 100
    values = means[which] + np.sqrt(variances[which]) * rng.normal(size=(20_000, 20))
    squared = (values - values.mean(axis=0)) ** 2
    spread = squared.std(axis=0) / np.sqrt(20_000)
    summary = ask(loud, x)
    total = summary.epistemic_std**2 * 0.99 + summary.aleatoric_std**2  # of 100, not of 99
    assert (np.abs(squared.mean(axis=0) - total) / spread).max() < Z_BOUND
    np.testing.assert_allclose(
        summary.std**2, summary.epistemic_std**2 + summary.aleatoric_std**2, rtol=1e-12
    )


def test_the_total_std_is_that_of_new_residuals(loud: Artifact) -> None:
    """20,000 new rows: their mean squared residual in units of the predictive variance is 1,
    within 30 %; without the noise it would be ten times as much."""
    x, y = rows(20_000, loud_and_quiet, 4)
    summary = ask(loud, x)
    squared = (y - summary.mean) ** 2
    assert (squared / summary.std**2).mean() == pytest.approx(1.0, abs=0.3)
    assert (squared / summary.epistemic_std**2).mean() > 10.0


def test_the_check_notices_noise_that_is_off_by_half(loud: Artifact) -> None:
    with torch.no_grad():
        bias = loud.network.linears[-1].bias
        bias[1] += np.log(4.0)
        try:
            with pytest.raises(AssertionError):
                test_noise_that_differs_between_rows_is_found(loud)
            with pytest.raises(AssertionError):
                test_the_total_std_is_that_of_new_residuals(loud)
        finally:
            bias[1] -= np.log(4.0)
