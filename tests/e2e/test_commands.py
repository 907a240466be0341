"""The `dropcast` command, as a person at a terminal uses it."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.commands.artifacts import export_version, import_version
from service.settings import Settings
from tests.e2e.conftest import CONCRETE, PENGUINS, ROOT, Service
from tests.e2e.terminal import AtTerminal

Here = Callable[..., subprocess.CompletedProcess[str]]


def test_uncertainty_goes_on_after_what_is_in_the_file(
    first_light: Service, tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    out.write_text("kept\n")
    with out.open("a") as file:
        asked = subprocess.run(
            [sys.executable, "-m", "service.cli", "uncertainty", "penguins", str(PENGUINS)],
            env=first_light.environment, cwd=ROOT, stdout=file, stderr=subprocess.PIPE, check=True,
        )  # fmt: skip
    assert asked.stderr == b"", "nothing is logged above the answer"
    first, *lines = out.read_text().splitlines()
    assert first == "kept"
    rows = list(csv.DictReader(lines))
    assert len(rows) == 344
    assert all(isinstance(json.loads(row["prediction_set.labels"]), list) for row in rows)
    assert {"label", "entropy", "mutual_information", "prediction_set.labels", "decision"} <= set(
        rows[0]
    )


def test_bench_measures_every_model_or_the_one_named(
    first_light: Service, service: Callable[..., Service], here: Here
) -> None:
    quick = ("bench", "--samples", "5", "--seconds", "0.01", "--rows", "1,20")
    ran = here(first_light, *quick)
    assert ran.returncode == 0, ran.stderr
    found = re.findall(
        r"^(\w+) version 1, .*-256-256-[13], T = 5, on cpu", ran.stdout, re.MULTILINE
    )
    assert sorted(found) == ["concrete", "penguins"]
    assert len(re.findall(r"│ (1|20) +│( +[\d.e+]+ ms +│){4}", ran.stdout)) == 4
    unknown = here(first_light, *quick, "pinguins")
    assert unknown.returncode == 1
    assert "penguins" in unknown.stderr
    assert "there are no models yet" in here(service(), "bench").stderr


@pytest.mark.parametrize(
    ("model", "file", "columns"),
    [
        ("concrete", CONCRETE, r"value . mean . std . lower . upper . decision"),
        (
            "penguins",
            PENGUINS,
            r"label . probability . entropy . information . prediction set . decision",
        ),
    ],
)
def test_a_terminal_shows_what_matters(
    first_light: Service, model: str, file: Path, columns: str
) -> None:
    asked = AtTerminal(first_light, "uncertainty", model, str(file), "--samples", "20")
    assert asked.end() == 0, asked.shown
    lines = asked.shown.splitlines()
    assert re.search(columns, re.sub(r" +", " ", asked.shown)), asked.shown
    assert max(map(len, lines)) <= 100
    assert "more: --output FILE writes them all" in lines[-1]


def test_rows_that_do_not_fit_are_named(first_light: Service, here: Here, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    lines = CONCRETE.read_text().splitlines()
    last = lines[1004].replace(lines[1004].split(",")[0], "", 1)
    broken.write_text("\n".join([*lines[:1004], last]))
    ended = here(first_light, "predict", "concrete", str(broken))
    assert ended.returncode == 1
    assert ended.stderr.startswith("broken.csv, row 1004, cement: is missing")
    broken.write_text("\n".join([lines[0].replace("cement", "cemnt"), *lines[1:]]))
    ended = here(first_light, "predict", "concrete", str(broken))
    assert ended.returncode == 1
    assert ended.stderr == "broken.csv has no column 'cement'; near it: cemnt\n"
    ended = here(first_light, "uncertainty", "concrete", str(CONCRETE), "--samples", "1")
    assert ended.returncode == 1
    assert re.fullmatch(r"n_samples: .* 2\n", ended.stderr)


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
    assert ended.returncode == os.EX_TEMPFAIL
    assert "a worker named worker-1 runs here already" in ended.stderr


def test_a_second_service_leaves_the_jobs_to_the_first_ones_worker(
    first_light: Service, service: Callable[..., Service]
) -> None:
    two = service()
    two.environment["DROPCAST_HOME"] = str(first_light.home)
    two.start()
    two.wait_until(lambda: "another process has the worker" in two.log.read_text(), 30)
    assert two.ask("concrete:predict", instances=[[540, 0, 0, 162, 2.5, 1040, 676, 28]])
    assert two.stop() == 0
    log = two.log.read_text()
    assert log.count("runs here already") == 1, "it is not started again"
    assert "Fatal" not in log


def test_the_first_start_tells_of_the_examples(first_light: Service) -> None:
    ready = "concrete and penguins are ready: ask them as the README shows"
    first_light.wait_until(lambda: ready in first_light.log.read_text(), 10)
    told = r"Dropcast on http://.*training the example models concrete and penguins: about half"
    assert re.search(told, first_light.log.read_text(), re.DOTALL)


def test_a_version_goes_from_one_home_to_another(
    first_light: Service,
    service: Callable[..., Service],
    here: Here,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = service()
    file = tmp_path / "concrete.zip"
    said = first_light.command("export", "concrete@1", str(file))
    assert (said.returncode, said.stdout) == (0, f"concrete version 1 is in {file}\n")
    said = here(there, "import", str(file), "--name", "beton")
    assert (said.returncode, said.stdout) == (
        0, "beton version 1 is here; production is version 1\n",
    )  # fmt: skip
    home = Settings(home=there.home)
    assert export_version(home, "beton", tmp_path / "again.zip") == 0
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()
    file.write_bytes(file.read_bytes()[:-100])
    assert import_version(home, file, "beton", "if_first") == 1
    assert export_version(home, "nothing", file) == 1
    assert export_version(home, "beton@7", file) == 1
    faults = capsys.readouterr().err.splitlines()
    told = ("not a readable zip", "there is no model 'nothing'", "has no version '7'")
    assert [fault in line for fault, line in zip(told, faults, strict=True)] == [True] * 3
    assert sorted(path.name for path in tmp_path.glob("*.zip")) == ["again.zip", "concrete.zip"]
