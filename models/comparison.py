"""Two versions on the same rows: how well each predicts them, and which of them it has not
learned from."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import torch

from models.artifact import Artifact
from models.errors import DataError, EncodeError
from models.held_out import hold_out
from models.recipe import Prepared
from models.report import mean_nll
from models.sampling import make_plan
from models.schema_inference import encode_target, records
from models.training_run import Split

Array = np.ndarray

# A score computed again on a machine of another kind is the same but for rounding.
SAME_SCORE = 1e-3


def encode_rows(artifact: Artifact, rows: pa.Table) -> Split | None:
    """Rows with known targets as the artifact's network sees them; None if they do not fit it."""
    schema = artifact.schema
    if schema.target.name not in rows.column_names:
        return None
    try:
        x = artifact.encode(records(rows, schema))
        return Split(x, torch.from_numpy(encode_target(rows, schema)))
    except (DataError, EncodeError, LookupError, TypeError, ValueError, pa.ArrowException):
        return None


def proper_score(artifact: Artifact, rows: Split) -> float:
    """Mean negative log-likelihood (nats) in MC mode, so that two versions of the same task and
    labels can be compared on the same rows."""
    return mean_nll(hold_out(make_plan(artifact.network), artifact.schema.target, rows))


def find_unlearned(artifact: Artifact, prepared: Prepared, rows: Split) -> Array | None:
    """Which of the rows (N,) the artifact has not learned from, by the splits that it was made of;
    None if these are not those splits: their held-out rows do not score as the artifact says.

    A row is known by what the network sees of it, wherever it stands in a file. What was both
    learned from and held out, since it stood in the table twice, counts as held out.
    """
    told = artifact.metrics["mc_mode"]["nll"]
    if not math.isclose(
        proper_score(artifact, prepared.calibration), told, rel_tol=SAME_SCORE, abs_tol=1e-5
    ):
        return None
    learned = np.isin(
        _keys(rows), np.concatenate([_keys(prepared.training), _keys(prepared.validation)])
    )
    return ~learned | np.isin(_keys(rows), _keys(prepared.calibration))


def _keys(rows: Split) -> Array:
    """One value (N,) for each row, the same for the same row."""
    columns = np.column_stack(
        [rows.x.numpy().view(np.int32), rows.y.numpy().astype(np.float32).view(np.int32)]
    )
    columns = np.ascontiguousarray(columns)
    return columns.view(np.dtype((np.void, columns.dtype.itemsize * columns.shape[1]))).ravel()
