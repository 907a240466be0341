"""A new version beside the one in production."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.artifact import Artifact, load_artifact
from models.comparison import encode_rows, find_unlearned, proper_score
from models.errors import ArtifactError, DataError
from models.ingest import read_table
from models.recipe import prepare
from models.training_run import Split
from service.promotion import Verdict
from service.recipes import make_recipe

log = logging.getLogger(__name__)

# On fewer rows than these nothing can be told of either.
LEAST_FAIR_ROWS = 20


def judge(
    artifact: Artifact, held_out: pa.Table, wish: str, rival: Mapping[str, Any] | None
) -> Verdict:
    """Whether it should go into production, and why: as the job's `promote` says, by the proper
    score of both on the rows that were held out, those that the other has learned from set aside
    where that is known. `rival` is the other, as `service.rivals` describes it."""
    if wish != "if_better":
        return Verdict(wish == "always", f"promote is {wish!r}")
    if rival is None:
        return Verdict(True, "there was no production version", is_comparison=True)
    try:
        production = load_artifact(rival["folder"])
    except ArtifactError:
        log.exception("version %s cannot be loaded", rival["version"])
        reason = f"version {rival['version']} in production cannot be loaded"
        return Verdict(True, reason, is_comparison=True, rival=rival["version"])
    if production.schema.target.labels != artifact.schema.target.labels:
        return Verdict(False, "the production version predicts other things than this one")
    own, other = encode_rows(artifact, held_out), encode_rows(production, held_out)
    if own is None or other is None:
        return Verdict(
            False, "the production version does not fit these rows, so they cannot be compared"
        )
    number = rival["version"]
    unlearned = _unlearned(production, rival["learned"], other)
    told = f"on the same {held_out.num_rows} held-out rows"
    is_fair = unlearned is not None and int(unlearned.sum()) >= LEAST_FAIR_ROWS
    if unlearned is None:
        told += f"; version {number} may have learned from them: what it learned from is not here"
    elif not is_fair:
        known = int((~unlearned).sum())
        told += f"; version {number} has learned from {known} of them, which favours it"
    else:
        own, other = (_only(rows, unlearned) for rows in (own, other))
        told = f"on the same {len(own)} held-out rows that neither has learned from"
    scores = proper_score(artifact, own), proper_score(production, other)
    reason = f"negative log-likelihood {scores[0]:.4f} against {scores[1]:.4f} of version {number}"
    comparison = {
        "version": number,
        "score": "negative_log_likelihood",
        "rows": len(own),
        "own": scores[0],
        "other": scores[1],
        "is_fair": is_fair,
    }
    return Verdict(scores[0] < scores[1], f"{reason}, {told}", True, number, comparison)


def _unlearned(
    production: Artifact, learned: Mapping[str, Any] | None, rows: Split
) -> np.ndarray | None:
    """Which rows (N,) that version has not learned from; None if that cannot be known."""
    if learned is None:
        return None
    try:
        table = read_table(Path(learned["file"]), learned["format"])
        # Only how it was split matters, which no device changes.
        prepared = prepare(table, make_recipe(learned["request"], "cpu"))
    except (DataError, OSError, ValueError):
        log.exception("what the production version learned from cannot be read")
        return None
    return find_unlearned(production, prepared, rows)


def _only(rows: Split, chosen: np.ndarray) -> Split:
    return Split(rows.x[chosen], rows.y[chosen])
