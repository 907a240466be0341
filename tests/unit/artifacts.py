"""Artifacts to be saved, and to be changed on disk."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from models import MLP, Artifact, MLPConfig
from models.artifact import FILES
from models.calibration import Calibration, CalibrationTable
from models.features import CategoryFeature, NumberFeature
from models.table import Schema, Target


def make(target: Target | None = None, **network: object) -> Artifact:
    schema = Schema(
        (
            NumberFeature("age", 40.0, 10.0, 18.0, 90.0),
            CategoryFeature("city", ("Bern", "Oslo")),
        ),
        target or Target("y", mean=7.0, std=2.0),
    )
    torch.manual_seed(0)
    config = MLPConfig(
        **{"in_features": 3, "hidden": (8,), "out_features": schema.target.out_features}
        | {"head": schema.target.task}
        | network
    )
    scores = np.sort(np.random.default_rng(0).uniform(size=30))
    measure, kind = ("entropy", "raps") if schema.target.labels else ("std", "scaled")
    return Artifact(
        schema,
        MLP(config).eval(),
        CalibrationTable(
            {
                2: Calibration(scores * 2, measure, 0.7, kind),
                9: Calibration(scores, measure, 0.5, kind),
            },
            folds=6,
            temperatures={} if measure == "std" else {"eval_mode": 1.5, "mc_mode": 1.2},
        ),
        "2026-01-02T03:04:05Z",
        {"rows": {"training": 9}},
        {"seed": 3},
        {"excerpt": [[41.0, "Bern"]]},
    )


def rewrite_sums(folder: Path) -> None:
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in FILES]
    (folder / "SHA256SUMS").write_text("".join(lines))


def change(folder: Path, edit) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rewrite_sums(folder)
