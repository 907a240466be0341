"""What a version shows for its figures: curves over held-out rows, and an excerpt of the data.

All of it is of bounded size, whatever the number of rows, and written to six digits: it is to
be drawn. Held-out rows are those of `models.report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.calibration import losses_of, uncertainty_of
from models.conformal import ScoreKind
from models.held_out import HeldOut
from models.report import conformal_figures, judged_by
from models.schema_inference import records
from models.scores import predictive_ranks
from models.selective import risk_curve
from models.table import Schema
from models.uncertainty import ClassificationSummary, Summary, join, to_gaussians

Array = np.ndarray

# Points of the curves, as shares of 1.
LEVELS = tuple(i / 20 for i in range(1, 20))
SHARES = tuple(i / 20 for i in range(1, 21))
N_BINS = 10
# More classes than these have no confusion matrix.
MOST_CLASSES = 50
# Rows of which predictions are shown beside the truth; training rows of the excerpt, and values
# that all of these have together.
MOST_RESIDUALS = 500
MOST_EXCERPT_ROWS, MOST_EXCERPT_VALUES = 200, 20_000


def gather(
    parts: Sequence[HeldOut], *, dropout: bool, score: ScoreKind, with_rows: bool
) -> dict[str, Any]:
    """The curves of the parts' rows together, in MC mode or in eval mode; predictions beside
    the truth only `with_rows`, as they are somebody's data."""
    truth = np.concatenate([part.truth for part in parts])
    summary = join([next(p.groups(len(p.drawn))) if dropout else p.eval_summary for p in parts])
    curve = risk_curve(uncertainty_of(summary), losses_of(summary, truth))
    pieces, uniforms = judged_by(parts), np.concatenate([part.uniforms for part in parts])
    found = {
        "rows": len(truth),
        "mode": "mc_dropout" if dropout else "eval",
        "coverage": [
            _rounded(conformal_figures(summary, truth, uniforms, pieces, score, level))
            for level in LEVELS
        ],
        "risk_coverage": [
            _rounded({"accepted": share, "risk": curve.risk_at(share)}) for share in SHARES
        ],
    }
    if isinstance(summary, ClassificationSummary):
        return found | _of_classes(summary, truth, parts[0].target.labels)
    ranks = []
    for part in parts:
        raw = part.drawn if dropout else part.evaluated
        ranks.append(predictive_ranks(part.truth, *to_gaussians(part.target, raw)))
    below = np.searchsorted(np.sort(np.concatenate(ranks)), LEVELS, side="right") / len(truth)
    found["calibration"] = [
        _rounded({"level": level, "observed": float(share)})
        for level, share in zip(LEVELS, below, strict=True)
    ]
    return found | (_residuals(summary, truth) if with_rows else {})


def excerpt_rows(table: pa.Table, rows: Array, schema: Schema, seed: int) -> list[list[Any]]:
    """Some of those rows, drawn by the seed, each with its features in the schema's order."""
    most = min(MOST_EXCERPT_ROWS, max(1, MOST_EXCERPT_VALUES // len(schema.features)))
    chosen = np.random.default_rng(seed).permutation(rows)[:most]
    names = [feature.name for feature in schema.features]
    return [[record[name] for name in names] for record in records(table.take(chosen), schema)]


def _of_classes(
    summary: ClassificationSummary, truth: Array, labels: Sequence[str]
) -> dict[str, Any]:
    """How often the predicted class was right, by how sure of it the network was; and which
    class was taken for which, as `counts[true][predicted]`."""
    predicted = summary.probabilities.argmax(axis=1)
    confidence = summary.probabilities.max(axis=1)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    calibration = [
        _rounded(
            {
                "confidence": float(confidence[bins == number].mean()),
                "accuracy": float((predicted == truth)[bins == number].mean()),
                "rows": int((bins == number).sum()),
            }
        )
        for number in np.unique(bins)
    ]
    if len(labels) > MOST_CLASSES:
        return {"calibration": calibration}
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    confusion = {"labels": list(labels), "counts": counts.tolist()}
    return {"calibration": calibration, "confusion": confusion}


def _residuals(summary: Summary, truth: Array) -> dict[str, Any]:
    assert not isinstance(summary, ClassificationSummary)
    rows = np.linspace(0, len(truth) - 1, min(len(truth), MOST_RESIDUALS)).round().astype(int)
    columns = {"prediction": summary.mean, "truth": truth, "std": summary.std}
    return {
        "residuals": {name: [_round(v) for v in values[rows]] for name, values in columns.items()}
    }


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: _round(v) if isinstance(v, float) else v for name, v in figures.items()}


def _round(value: float) -> float:
    return float(f"{value:.6g}")
