"""Where there were no training data epistemic std rises: a corner of feature space is left out.

Effect sizes asked for, far from what chance gives: in the corner the median epistemic std is
at least 1.5 times that of held-out rows outside it, and a row of the corner has the larger
one of a pair in 80 of 100 cases (AUROC). Corners inside the range of their columns can be
harder to notice: docs/benchmarks/shift.md.
"""

from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats

from models import Artifact
from models.draw import Draw
from models.estimators import estimate
from models.ingest import read_table
from models.masks import MaskStream
from models.recipe import Recipe, finish, prepare
from models.sampling import make_plan
from models.schema_inference import records
from models.training import fit
from models.training_run import TrainingOptions
from models.uncertainty import RegressionSummary
from tests.faults import Take, plant


def synthetic() -> tuple[pa.Table, str, np.ndarray]:
    """y = sin 2a + b² on a square, without its corner a, b > 0.7."""
    rng = np.random.default_rng(0)
    a, b, c = rng.uniform(-2, 2, (3, 2500))
    y = np.sin(2 * a) + b**2 + 0.1 * rng.normal(size=2500)
    return pa.table({"a": a, "b": b, "c": c, "y": y}), "y", (a > 0.7) & (b > 0.7)


def concrete() -> pa.Table:
    with resources.as_file(resources.files("service.examples") / "concrete.csv") as path:
        return read_table(Path(path), "csv")


def rich_mixes() -> tuple[pa.Table, str, np.ndarray]:
    """Concrete without mixes of much cement and much superplasticizer: 151 rows of 1,030."""
    table = concrete()
    cement, plasticizer = (table[name].to_numpy() for name in ("cement", "superplasticizer"))
    corner = (cement > np.quantile(cement, 0.7)) & (plasticizer > np.quantile(plasticizer, 0.6))
    return table, "compressive_strength", corner


def old_samples() -> tuple[pa.Table, str, np.ndarray]:
    """Concrete without the samples of three months and more: 190 rows."""
    table = concrete()
    return table, "compressive_strength", table["age"].to_numpy() >= 90


@pytest.fixture(scope="module", params=[synthetic, rich_mixes, old_samples])
def answers(request: pytest.FixtureRequest) -> tuple[Artifact, pa.Table, pa.Table]:
    """A network that has not seen the corner, held-out rows outside it, and the corner."""
    table, target, corner = request.param()
    outside = np.random.default_rng(1).permutation(np.flatnonzero(~corner))
    cut = len(outside) // 5
    options = TrainingOptions(epochs=40)
    recipe = Recipe(target, hidden=(128, 128), training=options)
    prepared = prepare(table.take(outside[cut:]), recipe)
    fitted = fit(prepared.config, prepared.training, prepared.validation, options)
    artifact = finish(prepared, fitted, "", {})
    return artifact, table.take(outside[:cut]), table.take(np.flatnonzero(corner))


def epistemic_std(artifact: Artifact, rows: pa.Table, seed: int = 0) -> np.ndarray:
    x = artifact.encode(records(rows, artifact.schema))
    plan = make_plan(artifact.network)
    summary = estimate(plan, artifact.schema.target, x, Draw(seed=seed)).summary
    assert isinstance(summary, RegressionSummary)
    return summary.epistemic_std


def area_under_roc(low: np.ndarray, high: np.ndarray) -> float:
    """The probability that one of `high` is larger than one of `low`."""
    return stats.mannwhitneyu(high, low).statistic / (len(low) * len(high))


def test_epistemic_std_rises_where_training_had_no_rows(
    answers: tuple[Artifact, pa.Table, pa.Table],
) -> None:
    artifact, near, far = answers
    known, unknown = epistemic_std(artifact, near), epistemic_std(artifact, far)
    assert np.median(unknown) >= 1.5 * np.median(known)
    assert area_under_roc(known, unknown) >= 0.8


def test_the_check_notices_a_network_without_dropout(
    answers: tuple[Artifact, pa.Table, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks that drop nothing leave no spread at all."""

    def keep_all(take: Take) -> Take:
        return lambda stream, n: [m if m is None else torch.ones_like(m) for m in take(stream, n)]

    plant(monkeypatch, MaskStream, keep_all)
    with pytest.raises(AssertionError):
        test_epistemic_std_rises_where_training_had_no_rows(answers)


def test_rows_outside_the_range_are_flagged(
    answers: tuple[Artifact, pa.Table, pa.Table],
) -> None:
    """All rows beyond the training rows' least and greatest values, and no others."""
    artifact, near, far = answers
    for rows in (near, far):
        found = artifact.schema.encode(records(rows, artifact.schema)).flags
        for i, flags in enumerate(found):
            outside = [
                f"out_of_range:{feature.name}"
                for feature in artifact.schema.features
                if not feature.minimum <= rows[feature.name][i].as_py() <= feature.maximum
            ]
            assert flags == outside
