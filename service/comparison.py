"""A new version beside the one in production."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from models.artifact import Artifact, load_artifact
from models.errors import ArtifactError
from models.recipe import proper_score
from service.promotion import Verdict

log = logging.getLogger(__name__)


def judge(
    artifact: Artifact, held_out: pa.Table, wish: str, rival: Mapping[str, Any] | None
) -> Verdict:
    """Whether it should go into production, and why: as the job's `promote` says, by the proper
    score of both on the rows that were held out. `rival` is version and folder of the other."""
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
    theirs, own = proper_score(production, held_out), proper_score(artifact, held_out)
    if theirs is None or own is None:
        return Verdict(
            False, "the production version does not fit these rows, so they cannot be compared"
        )
    reason = (
        f"negative log-likelihood {own:.4f} against {theirs:.4f} of version "
        f"{rival['version']}, on the same {held_out.num_rows} held-out rows"
    )
    return Verdict(own < theirs, reason, is_comparison=True, rival=rival["version"])
