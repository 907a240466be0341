"""What stands in an artifact's manifest makes sense, or is refused."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import load_artifact, save_artifact
from models.errors import ArtifactError
from models.table import Target
from tests.unit.artifacts import change, make, rewrite_sums


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
