"""Artifacts on disk: whole, unchanged, or refused."""

import contextlib
import hashlib
import json
import math
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models import MLP, Artifact, MLPConfig, load_artifact, save_artifact
from models.artifact import FILES
from models.calibration import Calibration, CalibrationTable
from models.errors import ArtifactError, EncodeError
from models.features import CategoryFeature, NumberFeature
from models.table import Schema, Target

ROWS = [{"age": 30, "city": "Bern"}, {"age": 55.5, "city": "Oslo"}]


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


def change(folder: Path, edit) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rewrite_sums(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format_version=3), "is a dropcast-artifact 3, and this release reads"),
        (lambda m: m.update(format="other"), "is a other 2, and this release reads"),
        (lambda m: m.pop("schema"), "does not describe a network: 'schema'"),
        (lambda m: m["network"].update(hidden=[9]), "size mismatch"),
        (lambda m: m["network"].update(hidden=[10**9]), "size mismatch"),
        (lambda m: m["network"].update(in_features=4), "differ in size or task"),
        (lambda m: m["network"].update(p=[7.0]), "has to be between 0 and 1"),
        (lambda m: m["network"].update(code="evil"), "unexpected keyword"),
        (lambda m: m["schema"]["features"].pop(), "differ in size or task"),
        (
            lambda m: m["calibration"]["thresholds"].update({"2": "x"}),
            "threshold in the manifest is of the wrong type",
        ),
        (lambda m: m["calibration"]["scores"].update({"2": "raps"}), "no conformal score beside"),
        (lambda m: m["calibration"]["scores"].pop("2"), "does not describe a network: '2'"),
        (lambda m: m["calibration"].update(folds=0), "one fold or more"),
        (lambda m: m["calibration"].update(temperatures={"mc_mode": -1.0}), "positive temper"),
        (lambda m: m["network"].update(eval_temperature=2.0), "a regression has no temperature"),
        (lambda m: m["network"].update(eval_temperature=0.0), "positive and finite, not 0"),
        (lambda m: m.update(network=None), "does not describe a network"),
        (lambda m: m["schema"]["target"].update(std=1e300), "std in the manifest is beyond"),
        (lambda m: m["schema"]["target"].update(std=0.0), "std in the manifest is below 1e-100"),
        (lambda m: m["schema"]["features"][0].update(mean=-1e101), "mean in the manifest is beyo"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(edit, message: str, tmp_path: Path) -> None:
    """Checksums right, content wrong: as an uploaded artifact could be."""
    save_artifact(make(), tmp_path / "a")
    change(tmp_path / "a", edit)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(tmp_path / "a")


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_an_artifact_of_the_first_format_is_read_as_it_was(task: str, tmp_path: Path) -> None:
    """It had no temperatures, and one kind of score for each task."""
    artifact = make(Target("c", labels=("a", "b", "c")) if task == "classification" else None)
    save_artifact(artifact, tmp_path / "a")

    def make_old(manifest: dict) -> None:
        manifest["format_version"] = 1
        del manifest["network"]["eval_temperature"]
        for name in ("scores", "folds", "temperatures"):
            del manifest["calibration"][name]

    change(tmp_path / "a", make_old)
    loaded = load_artifact(tmp_path / "a")
    assert loaded.calibration.finest.score == ("scaled" if task == "regression" else "lac")
    assert loaded.network.config.eval_temperature == 1.0
    card = loaded.card()["calibration"]
    assert (card["method"], card.get("temperature")) == ("split", None)


def places(values: object, path: tuple = ()) -> Iterator[tuple]:
    """The way to each value inside, outermost first."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in list(items):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def json_type(value: object) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize(
    "wrong", [None, True, 7, -0.5, 10**400, math.nan, "x", [], ["x"], [None], {}, {"x": "x"}],
    ids=lambda value: str(value)[:8],
)  # fmt: skip
def test_a_value_of_the_wrong_type_anywhere_in_the_manifest_is_refused(
    wrong: object, task: str, tmp_path: Path
) -> None:
    artifact = make(Target("c", labels=("a", "b", "c")) if task == "classification" else None)
    save_artifact(artifact, tmp_path / "a")
    manifest = (tmp_path / "a" / "manifest.json").read_text()
    for *path, key in places(json.loads(manifest)):
        if path and path[0] in ("metrics", "provenance", "report"):
            continue  # any plain values
        changed = json.loads(manifest)
        parent = changed
        for step in path:
            parent = parent[step]
        right, parent[key] = parent[key], wrong
        (tmp_path / "a" / "manifest.json").write_text(json.dumps(changed))
        rewrite_sums(tmp_path / "a")
        try:
            card = load_artifact(tmp_path / "a").card()
        except ArtifactError:
            continue
        json.dumps(card, allow_nan=False)
        # A fill may be absent, one p may stand for all; and Python takes True for 1.
        fits = key in ("fill", "p", "format_version") or json_type(wrong) == json_type(right)
        assert fits, (*path, key)


def test_a_manifest_without_any_one_of_its_values_is_refused_or_has_its_default(
    tmp_path: Path,
) -> None:
    save_artifact(make(), tmp_path / "a")
    manifest = (tmp_path / "a" / "manifest.json").read_text()
    for *path, key in places(json.loads(manifest)):
        changed = json.loads(manifest)
        parent = changed
        for step in path:
            parent = parent[step]
        del parent[key]
        (tmp_path / "a" / "manifest.json").write_text(json.dumps(changed))
        rewrite_sums(tmp_path / "a")
        with contextlib.suppress(ArtifactError):
            json.dumps(load_artifact(tmp_path / "a").card(), allow_nan=False)


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
