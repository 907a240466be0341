"""The trainer's part in cross-conformal calibration: what it says, and when a split is enough."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from models import load_artifact
from models.errors import DataError
from service.schemas import TrainingJobRequest
from service.trainer import Trainer


def run(folder: Path, calibration: str, n_rows: int = 60) -> tuple[int, list[dict]]:
    """All stages of a job: in how many folds it was calibrated, and what it said."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n_rows)
    table = pa.table({"x": x, "y": x + rng.normal(size=n_rows)})
    pyarrow.csv.write_csv(table, folder / "data.csv")
    request = TrainingJobRequest(
        model="m", dataset="d", target="y", calibration=calibration,
        hyperparameters={"hidden": [8], "epochs": 3}, promote="never",
    )  # fmt: skip
    job = {
        "id": "j", "request": request.model_dump(), "file": str(folder / "data.csv"),
        "format": "csv", "dataset_sha256": "0" * 64, "folder": str(folder / "job"),
        "checkpoint_seconds": 0.0, "device": "cpu", "threads": 1, "rival": None,
    }  # fmt: skip
    out = io.StringIO()
    trainer = Trainer(job, out)
    for stage in (trainer.prepare, trainer.train, trainer.calibrate):
        stage()
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    return load_artifact(folder / "job" / "artifact").calibration.folds, said


@pytest.mark.parametrize(("calibration", "folds"), [("auto", 6), ("cross", 6), ("split", 1)])
def test_folds_are_told_as_log_events(calibration: str, folds: int, tmp_path: Path) -> None:
    found, said = run(tmp_path, calibration)
    assert found == folds
    told = [event["data"] for event in said if "fold" in event.get("data", {})]
    assert told == [{"fold": i, "folds": folds} for i in range(2, folds + 1)]
    assert sum(event["type"] == "epoch" for event in said) == 3


def test_a_fold_that_cannot_be_learned_from_leaves_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DataError("constant_target", "'y' is the same in every row")

    monkeypatch.setattr("service.trainer.fit_folds", fail)
    folds, said = run(tmp_path, "auto")
    assert folds == 1
    (warning,) = [event["message"] for event in said if event.get("level") == "warning"]
    assert "on a split alone" in warning
    assert "'y' is the same in every row" in warning
    with pytest.raises(DataError):
        run(tmp_path, "cross")
