"""Artifacts on disk: whole, unchanged, or refused."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models import load_artifact, save_artifact
from models.artifact import FILES
from models.errors import ArtifactError, EncodeError
from models.table import Target
from tests.unit.artifacts import change, make, rewrite_sums

ROWS = [{"age": 30, "city": "Bern"}, {"age": 55.5, "city": "Oslo"}]


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "concrete", "dropconnect"])
def test_what_is_loaded_is_what_was_saved(kind: str, tmp_path: Path) -> None:
    artifact = make(dropout=kind, p=0.3)
    sha256 = save_artifact(artifact, tmp_path / "a")
    loaded = load_artifact(tmp_path / "a")
    assert loaded.sha256 == sha256
    assert loaded.schema == artifact.schema
    assert loaded.network.config == artifact.network.config
    assert (loaded.created_at, loaded.metrics, loaded.provenance) == (
        artifact.created_at, artifact.metrics, artifact.provenance,
    )  # fmt: skip
    assert loaded.report == artifact.report
    for count, calibration in artifact.calibration.by_samples.items():
        same = loaded.calibration.by_samples[count]
        np.testing.assert_array_equal(same.scores, calibration.scores)
        assert (same.measure, same.threshold) == (calibration.measure, calibration.threshold)
        assert same.score == calibration.score
    assert loaded.calibration.folds == 6
    x = artifact.encode(ROWS)
    assert torch.equal(loaded.encode(ROWS), x)
    assert torch.equal(loaded.network(x), artifact.network(x))
    assert not loaded.network.training
    loaded.network.train()
    assert not torch.equal(loaded.network(x), loaded.network(x))


def test_a_zip_is_read_like_the_folder(tmp_path: Path) -> None:
    sha256 = save_artifact(make(), tmp_path / "a")
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
            for name in (*FILES, "SHA256SUMS"):
                archive.write(tmp_path / "a" / name, name)
        assert load_artifact(str(tmp_path / "a.zip")).sha256 == sha256


def test_encode_and_decode_speak_the_users_terms(tmp_path: Path) -> None:
    artifact = make()
    x = artifact.encode(ROWS)
    assert x.dtype is torch.float32
    assert x.tolist() == [[-1.0, 1.0, 0.0], [pytest.approx(1.55), 0.0, 1.0]]
    assert artifact.decode(torch.tensor([[0.0], [1.0]])).tolist() == [[7.0], [9.0]]
    with pytest.raises(EncodeError):
        artifact.encode([{"age": "x", "city": "Bern"}])
    classes = make(Target("c", labels=("a", "b", "c")))
    probabilities = classes.decode(classes.network(classes.encode(ROWS)))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_an_existing_folder_is_never_written_over(tmp_path: Path) -> None:
    save_artifact(make(), tmp_path / "a")
    with pytest.raises(ArtifactError, match="exists already, and artifacts never change"):
        save_artifact(make(), tmp_path / "a")


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.artifact._sync_folder", full)
    with pytest.raises(OSError, match="No space left"):
        save_artifact(make(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "append", "empty"])
def test_any_damage_is_noticed(name: str, damage: str, tmp_path: Path) -> None:
    save_artifact(make(), tmp_path / "a")
    path = tmp_path / "a" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "truncate":
        del content[-1]
    elif damage == "append":
        content += b" "
    else:
        content.clear()
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} does not match its checksum"):
        load_artifact(tmp_path / "a")


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_flipped_bit_anywhere_in_a_zip_is_noticed_or_harmless(
    compression: int, tmp_path: Path
) -> None:
    """Harmless where a zip holds what nobody reads, such as the time of a file."""
    sha256 = save_artifact(make(), tmp_path / "a")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in (*FILES, "SHA256SUMS"):
            archive.write(tmp_path / "a" / name, name)
    content = bytearray(path.read_bytes())
    refused = 0
    for i in range(0, len(content), 7):
        content[i] ^= 16
        path.write_bytes(content)
        content[i] ^= 16
        try:
            assert load_artifact(path).sha256 == sha256
        except ArtifactError:
            refused += 1
    assert refused > len(content) / 7 / 2


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    save_artifact(make(), tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(ArtifactError, match=f"is not an artifact: it lacks {name}"):
        load_artifact(tmp_path / "a")


@pytest.mark.parametrize("sums", [b"", b"\xff\x00", b"0" * 64 + b"  other\n"])
def test_checksums_that_name_other_files_are_refused(sums: bytes, tmp_path: Path) -> None:
    save_artifact(make(), tmp_path / "a")
    (tmp_path / "a" / "SHA256SUMS").write_bytes(sums)
    with pytest.raises(ArtifactError, match="does not list the files"):
        load_artifact(tmp_path / "a")


def test_what_is_not_an_artifact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("readme", "hello")
    for name, message in (
        ("text", "not a readable zip"),
        ("pickle", "not a readable zip"),
        ("zip", "it lacks manifest.json"),
        ("nothing", "it lacks manifest.json"),
    ):
        with pytest.raises(ArtifactError, match=message):
            load_artifact(tmp_path / name)


def test_an_artifact_made_before_there_were_reports_has_none(tmp_path: Path) -> None:
    save_artifact(make(), tmp_path / "a")
    change(tmp_path / "a", lambda manifest: manifest.pop("report"))
    assert load_artifact(tmp_path / "a").report == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_have_to_be_finite(value: float, tmp_path: Path) -> None:
    artifact = make()
    with torch.no_grad():
        artifact.network.linears[0].weight[0, 0] = value
    save_artifact(artifact, tmp_path / "a")
    with pytest.raises(ArtifactError, match="not a finite 32-bit number"):
        load_artifact(tmp_path / "a")


@pytest.mark.parametrize("scores", [[2.0, 1.0], [1.0, float("nan")], [[1.0]]])
def test_scores_have_to_be_an_ascending_list(scores: list, tmp_path: Path) -> None:
    save_artifact(make(), tmp_path / "a")
    safetensors.torch.save_file(
        {"2": torch.tensor(scores), "9": torch.tensor(scores)},
        tmp_path / "a" / "calibration.safetensors",
    )
    rewrite_sums(tmp_path / "a")
    with pytest.raises(ArtifactError, match="calibration scores"):
        load_artifact(tmp_path / "a")


def test_the_card_tells_all(tmp_path: Path) -> None:
    save_artifact(make(p=0.25), tmp_path / "a")
    card = load_artifact(tmp_path / "a").card()
    assert card["task"] == "regression"
    assert card["target"] == "y"
    assert [f["name"] for f in card["features"]] == ["age", "city"]
    assert [f["type"] for f in card["features"]] == ["number", "category"]
    assert card["dropout"] == {"kind": "bernoulli", "p": [0.25], "input_p": 0.0}
    assert card["network"]["hidden"] == [8]
    assert card["calibration"] == {
        "method": "cross", "folds": 6, "rows": 30, "highest_coverage": 30 / 31,
        "score": "scaled", "abstain_above": {"std": 0.5},
    }  # fmt: skip
    assert len(card["artifact_sha256"]) == 64
    json.dumps(card, allow_nan=False)
