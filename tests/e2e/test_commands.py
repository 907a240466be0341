"""The `dropcast` command, as a person at a terminal uses it."""

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import CONCRETE, PENGUINS, ROOT, Service


def test_train_predict_uncertainty_models_without_a_running_service(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    one = service()
    trained = one.command(
        "train", str(PENGUINS), "--target", "species", "--name", "birds", "--epochs", "15",
        "--hidden", "32,32",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "birds version 1" in trained.stdout
    assert re.search(r"accuracy\s+│ 0\.9|accuracy\s+│ 1", trained.stdout)
    assert "there was no production version" in trained.stdout

    listed = one.command("models")
    assert re.search(
        r"birds\s+│ classification\s+│ species\s+│ 1\s+│ production → 1", listed.stdout
    )

    out = tmp_path / "predicted.csv"
    predicted = one.command("predict", "birds", str(PENGUINS), "--output", str(out))
    assert predicted.returncode == 0, predicted.stderr
    assert "344 rows written" in predicted.stdout
    rows = list(csv.DictReader(out.read_text().splitlines()))
    truth = [row["species"] for row in csv.DictReader(PENGUINS.read_text().splitlines())]
    assert sum(row["label"] == t for row, t in zip(rows, truth, strict=True)) > 0.95 * 344
    assert sum(float(rows[0][f"probabilities.{label}"]) for label in set(truth)) == pytest.approx(1)

    piped = one.command("uncertainty", "birds", str(PENGUINS), "--samples", "20", "--seed", "3")
    rows = list(csv.DictReader(piped.stdout.splitlines()))
    assert len(rows) == 344
    assert {"label", "entropy", "mutual_information", "prediction_set.labels", "decision"} <= set(
        rows[0]
    )


def test_errors_name_cause_and_place(service: Callable[..., Service], tmp_path: Path) -> None:
    one = service()
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n3\n")
    few = tmp_path / "few.csv"
    few.write_text("a,y\n" + "".join(f"{i},{i}\n" for i in range(12)))
    for arguments, text in (
        (("train", str(bad), "--target", "b"), "Row #3: Expected 2 columns, got 1"),
        (("train", str(PENGUINS), "--target", "specie"), "near it: species"),
        (("train", str(PENGUINS), "--target", "species", "--p", "2"), "less than 1 is due"),
        (("train", str(PENGUINS), "--target", "species", "--name", "a/b"), "model: "),
        (("train", str(few), "--target", "y"), "at least 35 rows are needed"),
        (("predict", "nobody", str(PENGUINS)), "there is no model 'nobody'"),
        (("train", str(tmp_path / "none.csv"), "--target", "y"), "does not exist"),
    ):
        ended = one.command(*arguments)
        assert ended.returncode != 0
        assert text in re.sub(r"\s+", " ", ended.stderr), ended.stderr
        assert "Traceback" not in ended.stderr


def test_rows_that_do_not_fit_are_named(first_light: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    lines = CONCRETE.read_text().splitlines()
    broken.write_text("\n".join([*lines[:4], lines[4].replace(lines[4].split(",")[0], "", 1)]))
    ended = first_light.command("predict", "concrete", str(broken))
    assert ended.returncode == 1
    assert "broken.csv, row 4, cement: is missing" in ended.stderr


@pytest.mark.parametrize(
    "command", ["", "serve", "worker", "train", "predict", "uncertainty", "models"]
)
def test_help_everywhere(command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", *command.split(), "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "Usage" in ended.stdout


def test_a_wrong_setting_is_named(service: Callable[..., Service]) -> None:
    ended = service(threads="many", device="tpu").command("serve")
    assert ended.returncode == 2
    assert "DROPCAST_THREADS" in ended.stderr
    assert "DROPCAST_DEVICE" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_named(
    first_light: Service, service: Callable[..., Service]
) -> None:
    two = service()
    two.environment["DROPCAST_PORT"] = str(first_light.port)
    ended = two.command("serve")
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{first_light.port}" in ended.stderr


def test_a_second_worker_of_the_same_name_is_refused(first_light: Service) -> None:
    ended = first_light.command("worker")
    assert ended.returncode != 0
    assert "a worker named worker-1 runs here already" in ended.stderr
