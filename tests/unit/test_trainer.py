"""The trainer's stages, called in this process: what a search says and leaves behind."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from service.trainer import Trainer
from service.training_progress import Stop

ROUND = 4  # trials that are fitted, and recorded, together


def job(folder: Path, **dropout: object) -> dict:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    file = folder / "data.csv"
    file.write_text("x,y\n" + "".join(f"{v:.5f},{2 * v + rng.normal():.5f}\n" for v in x))
    request = {
        "target": "y", "task": "auto", "seed": 0, "validation_fraction": 0.1,
        "calibration_fraction": 0.15, "promote": "never",
        "hyperparameters": {
            "hidden": [8, 4], "activation": "relu", "epochs": 8,
            "dropout": {"kind": "bernoulli", "p": "auto", "input_p": 0.0} | dropout,
        },
    }  # fmt: skip
    return {
        "id": "job_1", "request": request, "file": str(file), "format": "csv",
        "dataset_sha256": "0" * 64, "folder": str(folder), "rival": None, "checkpoint_seconds": 0,
        "device": "cpu", "threads": 1, "log_level": "info",
    }  # fmt: skip


def run(specification: dict) -> tuple[list[dict], dict]:
    """What all stages said, and the version's card."""
    out = io.StringIO()
    trainer = Trainer(specification, out)
    trainer.prepare()
    trainer.train()
    card = trainer.calibrate()["card"]
    return [json.loads(line) for line in out.getvalue().splitlines()], card


def trials(said: list[dict]) -> list[int]:
    return [message["data"]["trial"] for message in said if "trial" in message.get("data", {})]


def test_a_search_is_told_and_stands_in_the_card(tmp_path: Path) -> None:
    said, card = run(job(tmp_path))
    assert trials(said) == list(range(1, 9))
    search = card["provenance"]["search"]
    assert len(search["trials"]) == 8
    best = min(search["trials"], key=lambda trial: trial["nll"])
    assert search["chosen"] == best["number"]
    assert card["dropout"] == {"kind": "bernoulli", "p": [best["p"]] * 2, "input_p": 0.0}
    assert any(f"chosen: p {best['p']:g}, " in message["message"] for message in said)
    kinds = [message["type"] for message in said]
    assert kinds.index("epoch") > max(i for i, m in enumerate(said) if "trial" in m.get("data", {}))


def test_a_job_killed_in_its_search_ends_in_the_same_weights(tmp_path: Path) -> None:
    _, undisturbed = run(job(tmp_path / "a"))
    cut = job(tmp_path / "b")
    run(cut)
    folder = tmp_path / "b"
    # What a kill -9 in the second round leaves: the first round's record, and no checkpoint.
    record = folder / "search.json"
    record.write_text(json.dumps(json.loads(record.read_text())[:ROUND]))
    (folder / "checkpoint.safetensors").unlink()
    said, resumed = run(cut)
    assert trials(said) == list(range(ROUND + 1, 9))
    assert resumed["provenance"] == undisturbed["provenance"]
    assert resumed["metrics"] == undisturbed["metrics"]
    # And in the fit: nothing is searched again.
    said, again = run(cut)
    assert trials(said) == []
    assert again["metrics"] == undisturbed["metrics"]


def test_concrete_dropout_learns_p_instead(tmp_path: Path) -> None:
    said, card = run(job(tmp_path, kind="concrete"))
    assert trials(said) == []
    assert "search" not in card["provenance"]
    assert all(p == pytest.approx(0.1, abs=0.05) for p in card["dropout"]["p"])


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Without any checkpoint but the one that the stop brings about; in folds, too."""

    def weights(folder: Path) -> bytes:
        return (folder / "artifact" / "weights.safetensors").read_bytes()

    calm = job(tmp_path / "calm", p=0.1) | {"checkpoint_seconds": 1000}
    run(calm)

    class StopAfter(Stop):
        """Asked for after so many epochs."""

        def __init__(self, looks: int) -> None:
            super().__init__()
            self.looks = looks

        @property
        def is_requested(self) -> bool:
            self.looks -= 1
            return self.looks < 0

        @is_requested.setter
        def is_requested(self, value: bool) -> None:
            pass

    stopped = job(tmp_path / "stopped", p=0.1) | {"checkpoint_seconds": 1000}
    for looks in (2, 1):
        out = io.StringIO()
        trainer = Trainer(stopped, out, StopAfter(looks))
        with pytest.raises(SystemExit):
            trainer.train()
    assert {file.name for file in Path(stopped["folder"]).glob("*.safetensors")} == {
        "checkpoint.safetensors"
    }
    said, _ = run(stopped)
    epochs = [message["data"]["epoch"] for message in said if message["type"] == "epoch"]
    assert epochs == [6, 7, 8], "it went on from its checkpoint"
    assert weights(Path(stopped["folder"])) == weights(Path(calm["folder"]))
