"""The `dropcast` command, as a person at a terminal uses it."""

import csv
import importlib.metadata
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from service.commands.artifacts import export_version, import_version
from service.database import Database
from service.datasets import Datasets
from service.jobs import Jobs
from service.schemas import TrainingJobRequest
from service.settings import Settings
from tests.e2e.conftest import CONCRETE, PENGUINS, ROOT, Service


def store(one: Service) -> Database:
    """The database of a service that does not run."""
    database = Database(f"sqlite:///{one.home / 'dropcast.db'}")
    database.migrate()
    return database


class AtTerminal:
    """A command before a terminal of 100 columns."""

    def __init__(self, service: Service, *arguments: str) -> None:
        self._screen, side = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", *arguments],
            env=service.environment | {"COLUMNS": "100", "TERM": "xterm"},
            cwd=ROOT, stdout=side, stderr=side,
        )  # fmt: skip
        os.close(side)
        self._bytes = b""

    @property
    def shown(self) -> str:
        """All that was read, without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._bytes.decode(errors="replace"))

    def read(self) -> bool:
        """Waits for more to be shown; False at the end."""
        # How Linux tells that the other side of a terminal is closed.
        with suppress(OSError):
            self._bytes += os.read(self._screen, 1 << 16)
            return True
        os.close(self._screen)
        return False

    def end(self) -> int:
        """The exit code, once all is shown."""
        while self.read():
            pass
        return self.process.wait(timeout=30)


def test_train_predict_uncertainty_models_without_a_running_service(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    one = service()
    header, *lines = PENGUINS.read_text().splitlines()
    more = tmp_path / "penguins.csv"
    lines = [f"{line},2026-01-{1 + i % 28:02},{i}" for i, line in enumerate(lines)]
    more.write_text("\n".join([f"{header},when,id", *lines]))
    arguments = ["train", str(more), "--target", "species", "--name", "birds", "--hidden", "32,32"]
    trained = one.command(*arguments, "--epochs", "15")
    assert trained.returncode == 0, trained.stderr
    assert "birds version 1" in trained.stdout
    assert re.search(r"accuracy\s+│ 0\.9|accuracy\s+│ 1", trained.stdout)
    assert "production is now version 1: there was no production version" in trained.stdout
    warnings, _, _ = trained.stdout.partition("birds version 1")
    assert "column when is not used: " in warnings
    assert "column id is not used: " in warnings

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

    worse = one.command(*arguments, "--epochs", "2")
    assert re.search(r"version 2 was not promoted: negative log-likelihood .*\n", worse.stdout)
    database = store(one)
    (newest, *_), _ = Jobs(database, most_queued=1).page(None, None, 1)
    database.close()
    assert newest.progress["eta_seconds"] is None, "two epochs say nothing of a third"


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
    first_light: Service, service: Callable[..., Service]
) -> None:
    quick = ("bench", "--samples", "5", "--seconds", "0.01", "--rows", "1,20")
    ran = first_light.command(*quick)
    assert ran.returncode == 0, ran.stderr
    found = re.findall(
        r"^(\w+) version 1, .*-256-256-[13], T = 5, on cpu", ran.stdout, re.MULTILINE
    )
    assert sorted(found) == ["concrete", "penguins"]
    assert len(re.findall(r"│ (1|20) +│( +[\d.e+]+ ms +│){4}", ran.stdout)) == 4
    unknown = first_light.command(*quick, "pinguins")
    assert unknown.returncode == 1
    assert "penguins" in unknown.stderr
    assert "there are no models yet" in service().command("bench").stderr


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
        ended = one.command(*arguments)
        assert ended.returncode != 0
        assert text in re.sub(r"\s+", " ", ended.stderr), ended.stderr
        assert "Traceback" not in ended.stderr
    assert f"there are no models yet in {one.home}: " in one.command("models").stdout


def test_rows_that_do_not_fit_are_named(first_light: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    lines = CONCRETE.read_text().splitlines()
    last = lines[1004].replace(lines[1004].split(",")[0], "", 1)
    broken.write_text("\n".join([*lines[:1004], last]))
    ended = first_light.command("predict", "concrete", str(broken))
    assert ended.returncode == 1
    assert ended.stderr.startswith("broken.csv, row 1004, cement: is missing")
    broken.write_text("\n".join([lines[0].replace("cement", "cemnt"), *lines[1:]]))
    ended = first_light.command("predict", "concrete", str(broken))
    assert ended.returncode == 1
    assert ended.stderr == "broken.csv has no column 'cement'; near it: cemnt\n"
    ended = first_light.command("uncertainty", "concrete", str(CONCRETE), "--samples", "1")
    assert ended.returncode == 1
    assert re.fullmatch(r"n_samples: .* 2\n", ended.stderr)


@pytest.mark.parametrize(
    "command", ["", "serve", "worker", "train", "predict", "uncertainty", "models"]
)
def test_help_everywhere(command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", *command.split(), "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "Usage" in ended.stdout


def test_version() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "service.cli", "--version"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert said.stdout == f"dropcast {importlib.metadata.version('dropcast')}\n"


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


def test_train_says_what_it_waits_for_and_that_its_worker_has_died(
    service: Callable[..., Service],
) -> None:
    one = service()
    database = store(one)
    dataset = Datasets(database, one.home).add_file(CONCRETE, "concrete.csv").id
    request = TrainingJobRequest(
        model="big", dataset=dataset, target="compressive_strength",
        hyperparameters={"epochs": 5000, "early_stopping_patience": 5000},
    )  # fmt: skip
    big = Jobs(database, most_queued=1).submit(request)
    database.close()
    small = AtTerminal(one, "train", str(PENGUINS), "--target", "species", "--name", "small")
    while f"small: waits for {big.id} (model big)" not in small.shown:
        assert small.read(), small.shown
    worker = one.pid_of("--with-parent")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    assert small.end() == 1
    assert re.search(r"the worker ended with code -9; job_\w+ stays queued", small.shown)


def test_a_version_goes_from_one_home_to_another(
    first_light: Service,
    service: Callable[..., Service],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = service()
    file = tmp_path / "concrete.zip"
    said = first_light.command("export", "concrete@1", str(file))
    assert (said.returncode, said.stdout) == (0, f"concrete version 1 is in {file}\n")
    said = there.command("import", str(file), "--name", "beton")
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
