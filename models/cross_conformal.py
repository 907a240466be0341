"""Calibration with few rows: every row's score, by a network that has not learned from it.

The table is cut into K folds. The network of the first one is served; K - 1 others are fitted
alike, each with another fold held out, and only their scores are kept: n is then the number of
all rows, where a split has a seventh of them. A new row's score under the served network is
distributed as these are, as far as networks fitted to as many rows of the same table are alike.
That is no theorem, as it is for a split: benchmarks/coverage.py shows how far it holds.
Source: cross-conformal prediction, Vovk 2015; the K-fold method of Barber et al. 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from models.errors import DataError
from models.recipe import Prepared, Recipe, count_folds, prepare
from models.training import FitResult, fit

# "auto" calibrates across folds below this many labelled rows: beyond it a split has 150 rows,
# whose 90 % quantile is within 2.5 % coverage of its level (a standard deviation), and fits take
# longer.
LEAST_ROWS_FOR_SPLIT = 1_000
# Beyond these "cross" would gain nothing, for all that it costs.
MOST_ROWS_FOR_CROSS = 10_000

Fold = tuple[Prepared, FitResult]


def folds_of(prepared: Prepared, recipe: Recipe) -> int:
    """How many networks calibrate: 1 is the served one alone.

    Raises:
        DataError: "cross" is asked for, and there are more than `MOST_ROWS_FOR_CROSS` rows.
    """
    n_calibration = len(prepared.calibration)
    n_rows = len(prepared.training) + len(prepared.validation) + n_calibration
    is_small = n_rows < LEAST_ROWS_FOR_SPLIT
    if recipe.calibration == "split" or (recipe.calibration == "auto" and not is_small):
        return 1
    if n_rows > MOST_ROWS_FOR_CROSS:
        raise DataError(
            "too_many_rows_for_cross",
            f"cross-conformal calibration is for up to {MOST_ROWS_FOR_CROSS} rows, and these are "
            f"{n_rows}: calibrate on a split",
            "calibration",
        )
    return count_folds(n_rows, n_calibration)


def fit_folds(
    table: pa.Table,
    recipe: Recipe,
    n_folds: int,
    *,
    folder: Path | None = None,
    should_checkpoint: Callable[[], bool] = lambda: True,
    on_fold: Callable[[int, int], object] = lambda *_: None,
) -> list[Fold]:
    """The networks of all folds but the first, each told of when it is fitted: its number,
    from 2 on, and its best epoch. In `folder` each has a checkpoint of its own, from which an
    interrupted run goes on.

    Raises:
        DataError, TrainingError: as `fit_fold` does.
    """
    folds = []
    for fold in range(1, n_folds):
        checkpoint = None if folder is None else folder / f"fold-{fold + 1}.safetensors"
        folds.append(
            fit_fold(
                table, recipe, fold, checkpoint=checkpoint, should_checkpoint=should_checkpoint
            )
        )
        on_fold(fold + 1, folds[-1][1].best_epoch)
    return folds


def fit_fold(
    table: pa.Table,
    recipe: Recipe,
    fold: int,
    *,
    checkpoint: Path | None = None,
    should_checkpoint: Callable[[], bool] = lambda: True,
) -> Fold:
    """The network of another fold than the first, 0, fitted like that one with a seed of its
    own; with a checkpoint as in `models.training.fit`.

    Raises:
        DataError: the rows that are left to learn from cannot be used.
        TrainingError: as in `fit`.
    """
    prepared = prepare(table, recipe, fold)
    options = replace(recipe.training, seed=(recipe.training.seed + fold) % 2**63)
    fitted = fit(
        prepared.config,
        prepared.training,
        prepared.validation,
        options,
        checkpoint=checkpoint,
        should_checkpoint=should_checkpoint,
    )
    return prepared, fitted
