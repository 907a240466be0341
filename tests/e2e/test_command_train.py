"""`dropcast train`, with the worker that it starts, and what can be asked afterwards."""

import csv
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from service.database import Database
from service.datasets import Datasets
from service.jobs import Jobs
from service.schemas import TrainingJobRequest
from tests.e2e.conftest import CONCRETE, PENGUINS, Service
from tests.e2e.terminal import AtTerminal

Here = Callable[..., subprocess.CompletedProcess[str]]


def store(one: Service) -> Database:
    """The database of a service that does not run."""
    database = Database(f"sqlite:///{one.home / 'dropcast.db'}")
    database.migrate()
    return database


def test_train_predict_uncertainty_models_without_a_running_service(
    service: Callable[..., Service], here: Here, tmp_path: Path
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

    listed = here(one, "models")
    assert re.search(
        r"birds\s+│ classification\s+│ species\s+│ 1\s+│ production → 1", listed.stdout
    )

    out = tmp_path / "predicted.csv"
    predicted = here(one, "predict", "birds", str(PENGUINS), "--output", str(out))
    assert predicted.returncode == 0, predicted.stderr
    assert "344 rows written" in predicted.stdout
    rows = list(csv.DictReader(out.read_text().splitlines()))
    truth = [row["species"] for row in csv.DictReader(PENGUINS.read_text().splitlines())]
    assert sum(row["label"] == t for row, t in zip(rows, truth, strict=True)) > 0.95 * 344
    assert sum(float(rows[0][f"probabilities.{label}"]) for label in set(truth)) == pytest.approx(1)

    worse = one.command(*arguments, "--epochs", "2")
    assert re.search(r"version 2 was not promoted: negative log-likelihood .*\n", worse.stdout)
    few = tmp_path / "few.csv"
    few.write_text("a,y\n" + "".join(f"{i},{i}\n" for i in range(12)))
    failed = one.command("train", str(few), "--target", "y")
    assert failed.returncode == 1
    assert "at least 35 rows are needed" in re.sub(r"\s+", " ", failed.stderr)
    database = store(one)
    (failure, newest, *_), _ = Jobs(database, most_queued=1).page(None, None, 2)
    database.close()
    assert failure.status == "failed"
    assert newest.progress["eta_seconds"] is None, "two epochs say nothing of a third"


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
