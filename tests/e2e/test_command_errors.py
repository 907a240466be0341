"""What the `dropcast` command refuses by itself, and its help."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import PENGUINS, ROOT, Service

Here = Callable[..., subprocess.CompletedProcess[str]]


def test_errors_name_cause_and_place(
    service: Callable[..., Service], here: Here, tmp_path: Path
) -> None:
    one = service()
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n3\n")
    for arguments, text in (
        (("train", str(bad), "--target", "b"), "Row #3: Expected 2 columns, got 1"),
        (("train", str(PENGUINS), "--target", "specie"), "near it: species"),
        (("train", str(PENGUINS), "--target", "species", "--p", "2"), "less than 1 is due"),
        (("train", str(PENGUINS), "--target", "species", "--name", "a/b"), "model: "),
        (("train", str(PENGUINS), "--target", "species", "--hidden", "abc"), "not 'abc'"),
        (("bench", "--rows", "0"), "one row or more is due"),
        (("bench", "--rows", "many"), "not 'many'"),
        (
            ("predict", "nobody", str(PENGUINS)),
            f"there is no model 'nobody' (looked in {one.home})",
        ),
        (("predict", "nobody", str(PENGUINS), "--output", "/none/x.csv"), "cannot write /none/x"),
        (("train", str(tmp_path / "none.csv"), "--target", "y"), "does not exist"),
    ):
        ended = here(one, *arguments)
        assert ended.returncode != 0
        assert text in re.sub(r"\s+", " ", ended.stderr), ended.stderr
    assert f"there are no models yet in {one.home}: " in here(one, "models").stdout


@pytest.mark.parametrize(
    "command", ["", "serve", "worker", "train", "predict", "uncertainty", "models"]
)
def test_help_everywhere(service: Callable[..., Service], here: Here, command: str) -> None:
    ended = here(service(), *command.split(), "--help")
    assert ended.returncode == 0
    assert "Usage" in ended.stdout


def test_version() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "service.cli", "--version"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert said.stdout == f"dropcast {importlib.metadata.version('dropcast')}\n"


def test_a_wrong_setting_is_named(service: Callable[..., Service], here: Here) -> None:
    ended = here(service(threads="many", device="tpu"), "serve")
    assert ended.returncode == 2
    assert "DROPCAST_THREADS" in ended.stderr
    assert "DROPCAST_DEVICE" in ended.stderr
