"""Arrays -> rows for the wire: what each prediction says, in the contract's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.calibration import Calibration
from models.conformal import row_uniforms
from models.estimators import Estimate
from models.table import Target
from models.uncertainty import ClassificationSummary, RegressionSummary
from service.computation import Predicted, Uncertain

Row = dict[str, Any]
Array = np.ndarray


def predicted(answer: Predicted) -> dict[str, Any]:
    """The body of `:predict`."""
    loaded = answer.loaded
    rows = predictions(loaded.artifact.schema.target, answer.values)
    add_flags(rows, answer.encoded.flags)
    return {"model": loaded.model, "version": loaded.version, "predictions": rows}


def uncertain(answer: Uncertain, coverage: float) -> dict[str, Any]:
    """The body of `:uncertainty`.

    Raises:
        CoverageError: more coverage than the calibration can vouch for.
    """
    loaded, draw, drawn = answer.loaded, answer.draw, answer.estimate
    rows = uncertain_predictions(
        loaded.artifact.schema.target,
        answer.values,
        drawn,
        loaded.artifact.calibration.at(drawn.textbook_samples),
        draw.quantiles,
        coverage,
        row_uniforms(torch.from_numpy(answer.encoded.inputs), draw.seed),
    )
    add_flags(rows, answer.encoded.flags)
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


def uncertain_predictions(
    target: Target,
    values: Array,
    drawn: Estimate,
    calibration: Calibration,
    quantiles: Sequence[float],
    coverage: float,
    uniforms: Array,
) -> list[Row]:
    """Rows of `:uncertainty`: eval-mode values (N, C) beside what was drawn, with a number
    for each row (`models.conformal.row_uniforms`) that its prediction set turns on."""
    abstains = calibration.abstains(drawn.summary)
    if isinstance(drawn.summary, RegressionSummary):
        rows = _regression_rows(drawn.summary, values, calibration, quantiles, coverage)
    else:
        rows = _classification_rows(target, drawn.summary, values, calibration, coverage, uniforms)
    for row, abstain in zip(rows, abstains.tolist(), strict=True):
        row["decision"] = "abstain" if abstain else "accept"
    if drawn.samples is not None:
        for i, row in enumerate(rows):
            row["samples"] = series(target, drawn.samples[:, i])
    return rows


def add_flags(rows: list[Row], flags: list[list[str]]) -> None:
    """Flags, to the rows that have any."""
    for row, flagged in zip(rows, flags, strict=True):
        if flagged:
            row["flags"] = flagged


def _regression_rows(
    summary: RegressionSummary,
    values: Array,
    calibration: Calibration,
    quantiles: Sequence[float],
    coverage: float,
) -> list[Row]:
    names = [str(level) for level in quantiles]
    lower, upper = (ends.tolist() for ends in calibration.interval(summary, coverage))
    columns = zip(
        values[:, 0].tolist(),
        summary.mean.tolist(),
        summary.std.tolist(),
        summary.epistemic_std.tolist(),
        summary.aleatoric_std.tolist(),
        summary.standard_error.tolist(),
        summary.quantiles.tolist(),
        strict=True,
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
            "interval": {"coverage": coverage, "lower": lower[i], "upper": upper[i]},
        }
        for i, (value, mean, std, epistemic, aleatoric, error, levels) in enumerate(columns)
    ]


def _classification_rows(
    target: Target,
    summary: ClassificationSummary,
    values: Array,
    calibration: Calibration,
    coverage: float,
    uniforms: Array,
) -> list[Row]:
    members = calibration.prediction_set(summary.probabilities, coverage, uniforms)
    deterministic = predictions(target, values)
    rows = []
    for i, answer in enumerate(predictions(target, summary.probabilities)):
        labels = [target.labels[j] for j in np.flatnonzero(members[i])]
        rows.append(
            answer
            | {
                "deterministic": deterministic[i],
                "std": _by_label(target, summary.std[i].tolist()),
                "standard_error": _by_label(target, summary.standard_error[i].tolist()),
                "entropy": float(summary.entropy[i]),
                "expected_entropy": float(summary.expected_entropy[i]),
                "mutual_information": float(summary.mutual_information[i]),
                "variation_ratio": float(summary.variation_ratio[i]),
                "prediction_set": {"coverage": coverage, "labels": labels},
            }
        )
    return rows


def series(target: Target, samples: Array) -> list[Any]:
    """(T,) values, or (T, C) probabilities by label."""
    values = samples.tolist()
    if target.task == "regression":
        return list(values)
    return [_by_label(target, row) for row in values]


def _by_label(target: Target, row: Sequence[float]) -> dict[str, float]:
    return dict(zip(target.labels, row, strict=True))
