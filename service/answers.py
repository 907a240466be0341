"""Arrays -> rows for the wire: what each prediction says, in the contract's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

import numpy as np

from models.table import Encoded, Target
from models.uncertainty import ClassificationSummary, RegressionSummary
from service.computation import Predicted, Uncertain

Row = dict[str, Any]
Array = np.ndarray


def predicted(answer: Predicted) -> dict[str, Any]:
    """The body of `:predict`."""
    loaded = answer.loaded
    rows = predictions(loaded.artifact.schema.target, answer.values)
    add_flags(rows, answer.encoded)
    return {"model": loaded.model, "version": loaded.version, "predictions": rows}


def uncertain(answer: Uncertain) -> dict[str, Any]:
    """The body of `:uncertainty`, of an answer that claims intervals or sets.

    Raises:
        CoverageError: more coverage than the calibration can vouch for.
    """
    loaded, draw, drawn = answer.loaded, answer.draw, answer.estimate
    target, summary = loaded.artifact.schema.target, drawn.summary
    if isinstance(summary, RegressionSummary):
        rows = _regression_rows(answer, summary)
    else:
        rows = _classification_rows(answer, summary)
    for row, abstain in zip(rows, answer.claims.abstains.tolist(), strict=True):
        row["decision"] = "abstain" if abstain else "accept"
    if drawn.samples is not None:
        for i, row in enumerate(rows):
            row["samples"] = series(target, drawn.samples[:, i])
    add_flags(rows, answer.encoded)
    return {
        "model": loaded.model,
        "version": loaded.version,
        "mode": "mc_dropout",
        "estimator": drawn.estimator,
        "n_samples": draw.n_samples,
        "samples_used": drawn.samples_used,
        "seed": draw.seed,
        "converged": drawn.converged,
        "predictions": rows,
    }


def predictions(target: Target, values: Array) -> list[Row]:
    """Rows of `:predict` from decoded outputs (N, C)."""
    if target.task == "regression":
        return [{"value": value} for value in values[:, 0].tolist()]
    return [
        {"label": target.labels[best], "probabilities": _by_label(target, row)}
        for best, row in zip(values.argmax(axis=1).tolist(), values.tolist(), strict=True)
    ]


def add_flags(rows: list[Row], encoded: Encoded) -> None:
    """Flags, to the rows that have any."""
    if not encoded.marks:
        return
    for row, flagged in zip(rows, encoded.flags, strict=True):
        if flagged:
            row["flags"] = flagged


def _regression_rows(answer: Uncertain, summary: RegressionSummary) -> list[Row]:
    coverage, names = answer.claims.coverage, [str(level) for level in answer.draw.quantiles]
    lower, upper = answer.claims.interval
    columns = (
        answer.values[:, 0],
        summary.mean,
        answer.claims.uncertainty,
        summary.epistemic_std,
        summary.aleatoric_std,
        summary.standard_error,
        summary.quantiles,
        lower,
        upper,
    )
    return [
        {
            "value": value,
            "mean": mean,
            "std": std,
            "epistemic_std": epistemic,
            "aleatoric_std": aleatoric,
            "standard_error": error,
            "quantiles": dict(zip(names, levels, strict=True)),
            "interval": {"coverage": coverage, "lower": low, "upper": high},
        }
        for value, mean, std, epistemic, aleatoric, error, levels, low, high in _rows_of(columns)
    ]


def _classification_rows(answer: Uncertain, summary: ClassificationSummary) -> list[Row]:
    target, coverage = answer.loaded.artifact.schema.target, answer.claims.coverage
    columns = (
        summary.std,
        summary.standard_error,
        summary.entropy,
        summary.expected_entropy,
        summary.mutual_information,
        summary.variation_ratio,
        answer.claims.members,
    )
    rows = predictions(target, summary.probabilities)
    deterministic = predictions(target, answer.values)
    for row, plain, found in zip(rows, deterministic, _rows_of(columns), strict=True):
        std, error, entropy, expected, information, variation, members = found
        row["deterministic"] = plain
        row["std"] = _by_label(target, std)
        row["standard_error"] = _by_label(target, error)
        row["entropy"] = entropy
        row["expected_entropy"] = expected
        row["mutual_information"] = information
        row["variation_ratio"] = variation
        row["prediction_set"] = {
            "coverage": coverage,
            "labels": [*compress(target.labels, members)],
        }
    return rows


def _rows_of(columns: Sequence[Array]) -> Iterator[tuple[Any, ...]]:
    """Plain values of N rows, from columns (N, …)."""
    return zip(*(column.tolist() for column in columns), strict=True)


def series(target: Target, samples: Array) -> list[Any]:
    """(T,) values, or (T, C) probabilities by label."""
    values = samples.tolist()
    if target.task == "regression":
        return list(values)
    return [_by_label(target, row) for row in values]


def _by_label(target: Target, row: Sequence[float]) -> dict[str, float]:
    return dict(zip(target.labels, row, strict=True))
