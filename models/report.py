"""What a version's card says of held-out rows: errors, proper scores, calibration, coverage.

Each figure is of rows that neither the weights nor what is judged has seen; conformal
intervals and sets, whose quantile is found on these same rows, are cross-fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from models.calibration import calibrate_groups, losses_of, uncertainty_of
from models.conformal import ScoreKind
from models.draw import Draw, Estimator
from models.errors import CoverageError
from models.estimators import estimate
from models.held_out import HeldOut, draw
from models.sampling import Plan, predict
from models.scores import (
    classification_errors,
    mixture_crps,
    mixture_nll,
    quantile_calibration_error,
    regression_errors,
)
from models.selective import risk_curve
from models.table import Target, softmax
from models.training_run import Split
from models.uncertainty import (
    ClassificationSummary,
    Summary,
    join,
    moments,
    take_rows,
    to_gaussians,
)

Array = np.ndarray

COVERAGES = (0.8, 0.9, 0.95)
# Shares of accepted rows at which the risk-coverage curve is told.
SHARES = (1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2)
# Numbers of samples of the curve that compares weight scaling with averaging, each measured
# with so many sets of samples at most, on so many rows at most.
CURVE_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
MOST_CURVE_GROUPS = 20
MOST_CURVE_ROWS = 2_000
# Rows, and samples of the control variate, that the analytic moments are compared with; spreads
# below the least are rounding.
MOST_GAP_ROWS, GAP_SAMPLES = 500, 400
GAP_ESTIMATORS: tuple[Estimator, ...] = ("stratified", "control_variate", "analytic")
LEAST_SPREAD = 1e-6


def measure(parts: Sequence[HeldOut], *, dropout: bool, score: ScoreKind) -> dict[str, Any]:
    """Figures of the parts' rows together, in MC mode with all samples or in eval mode.

    With several parts, each of a network of its own, one is judged by the conformal scores
    of all others; a single one is cut in two halves, and each judged by the other.
    """
    truth = np.concatenate([part.truth for part in parts])
    uniforms = np.concatenate([part.uniforms for part in parts])
    summary = join([next(p.groups(len(p.drawn))) if dropout else p.eval_summary for p in parts])
    if isinstance(summary, ClassificationSummary):
        figures: dict[str, Any] = dict(classification_errors(truth, summary.probabilities))
    else:
        raws = [part.drawn if dropout else part.evaluated for part in parts]
        gaussians = [to_gaussians(p.target, raw) for p, raw in zip(parts, raws, strict=True)]
        means, variances = (np.concatenate(both, axis=1) for both in zip(*gaussians, strict=True))
        figures = _regression_figures(truth, means, variances)
    curve = risk_curve(uncertainty_of(summary), losses_of(summary, truth))
    pieces = judged_by(parts)
    name = "prediction_set" if isinstance(summary, ClassificationSummary) else "interval"
    return figures | {
        "aurc": curve.area,
        "risk_coverage": [{"accepted": s, "risk": curve.risk_at(s)} for s in SHARES],
        name: [conformal_figures(summary, truth, uniforms, pieces, score, c) for c in COVERAGES],
    }


def judged_by(parts: Sequence[HeldOut]) -> Array:
    """The piece that each row (N,) is of, whose conformal scores do not judge it."""
    if len(parts) == 1:
        return np.random.default_rng(0).permutation(len(parts[0].truth)) % 2
    return np.repeat(np.arange(len(parts)), [len(part.truth) for part in parts])


def mean_nll(part: HeldOut) -> float:
    """Mean negative log-likelihood of the rows in MC mode, in nats."""
    return _error_and_nll(part.target, part.drawn, part.truth)["nll"]


def sampling_curve(plan: Plan, target: Target, split: Split) -> list[dict[str, float]]:
    """Error and likelihood of the mean over T samples, for several T: where it meets eval
    mode's, Monte Carlo averaging has caught up with weight scaling (Srivastava et al. 2014,
    section 7.5).

    Raises:
        TrainingError: an output is not a finite number.
    """
    x, truth = _curve_rows(target, split)
    raw = draw(plan, x, n_samples=max(CURVE_COUNTS))
    points = []
    for count in CURVE_COUNTS:
        starts = range(0, len(raw) - count + 1, count)[:MOST_CURVE_GROUPS]
        found = [_error_and_nll(target, raw[start : start + count], truth) for start in starts]
        averages = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        points.append({"n_samples": count} | averages)
    return points


def weight_scaling(plan: Plan, target: Target, split: Split) -> dict[str, float]:
    """What `sampling_curve` is compared with: eval mode on the same rows."""
    x, truth = _curve_rows(target, split)
    return _error_and_nll(target, predict(plan, x)[None].double().cpu().numpy(), truth)


def _curve_rows(target: Target, split: Split) -> tuple[Tensor, Array]:
    truth = split.y[:MOST_CURVE_ROWS].numpy()
    if target.task == "regression":
        truth = truth.astype(np.float64) * target.std + target.mean
    return split.x[:MOST_CURVE_ROWS], truth


def analytic_gaps(plan: Plan, target: Target, split: Split) -> dict[str, float]:
    """How far the analytic moments are from sampled ones: what 95 % of the rows, or of their
    classes, are within. "mean" in units of the spread over thinned networks, "std" relative.

    Raises:
        NonFiniteError: an output is not a finite number.
    """
    x = split.x[:MOST_GAP_ROWS]
    # The control variate's own mean leans on the analytic one.
    draws = (Draw(n_samples=GAP_SAMPLES, estimator=e) for e in GAP_ESTIMATORS)
    found = [estimate(plan, target, x, draw).summary for draw in draws]
    (mean, _), (_, std), (centre, spread) = map(moments, found)
    is_moved = std > LEAST_SPREAD
    if not is_moved.any():
        return {"mean": 0.0, "std": 0.0}
    mean, std, centre, spread = (array[is_moved] for array in (mean, std, centre, spread))
    gaps = {"mean": np.abs(centre - mean) / std, "std": np.abs(spread / std - 1.0)}
    return {name: float(np.quantile(gap, 0.95)) for name, gap in gaps.items()}


def _error_and_nll(target: Target, raw: Array, truth: Array) -> dict[str, float]:
    if target.task == "classification":
        errors = classification_errors(truth, softmax(raw).mean(axis=0))
        return {name: errors[name] for name in ("accuracy", "nll")}
    means, variances = to_gaussians(target, raw)
    rmse = regression_errors(truth, means.mean(axis=0))["rmse"]
    return {"rmse": rmse, "nll": mixture_nll(truth, means, variances)}


def _regression_figures(truth: Array, means: Array, variances: Array) -> dict[str, Any]:
    return regression_errors(truth, means.mean(axis=0)) | {
        "nll": mixture_nll(truth, means, variances),
        "crps": mixture_crps(truth, means, variances),
        "ece": quantile_calibration_error(truth, means, variances),
    }


def conformal_figures(
    summary: Summary,
    truth: Array,
    uniforms: Array,
    pieces: Array,
    score: ScoreKind,
    coverage: float,
) -> dict[str, float | None]:
    """Coverage, and mean width or size, of rows judged by the quantile of other pieces' rows;
    None where these are too few for that coverage."""
    is_class = isinstance(summary, ClassificationSummary)
    covered, sizes = np.zeros(len(truth)), np.zeros(len(truth))
    figure = "mean_size" if is_class else "mean_width"
    for piece in np.unique(pieces):
        rows, others = np.flatnonzero(pieces == piece), np.flatnonzero(pieces != piece)
        reference = [take_rows(summary, others)]
        calibration = calibrate_groups(reference, truth[others], uniforms[others], score)
        part = take_rows(summary, rows)
        try:
            if isinstance(part, ClassificationSummary):
                members = calibration.prediction_set(part.probabilities, coverage, uniforms[rows])
                covered[rows] = members[np.arange(len(rows)), truth[rows]]
                sizes[rows] = members.sum(axis=1)
            else:
                lower, upper = calibration.interval(part, coverage)
                covered[rows] = (lower <= truth[rows]) & (truth[rows] <= upper)
                sizes[rows] = upper - lower
        except CoverageError:
            return {"nominal": coverage, "coverage": None, figure: None}
    return {
        "nominal": coverage,
        "coverage": float(covered.mean()),
        figure: float(sizes.mean()),
    }
