"""The child process that computes one training job: file -> table -> network -> artifact.

It knows no database. The worker writes one JSON line for each stage to its standard input
and reads JSON lines from its standard output, the last of a stage being "done" or "failed".
Stages build on each other; one that finds its predecessor's result missing, as after a
crash, makes it again from the file and the last checkpoint.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import logging
import os
import queue
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import orjson
import torch

from models.artifact import save_artifact
from models.cross_conformal import Fold, fit_folds, folds_of
from models.device import available_threads
from models.errors import DataError
from models.ingest import read_table
from models.recipe import Prepared, finish, prepare
from models.search import Choice, choose_dropout
from models.training import FitResult, fit
from service.comparison import judge
from service.job_errors import describe
from service.logs import configure_logging
from service.processes import end_with_parent
from service.recipes import make_recipe
from service.training_progress import Clock, Stop, describe_epoch, describe_trial

# Multiply-adds of one forward pass beyond which a second thread pays.
PARALLEL_WORK = 50_000_000

log = logging.getLogger(__name__)


class Trainer:
    """One job's computation. `job` is the specification that the worker sends first:
    `id`, `request`, `file`, `format`, `dataset_sha256`, `folder`, `checkpoint_seconds`,
    `device`, and `rival`, the version to beat as `service.rivals` describes it, or null."""

    def __init__(self, job: Mapping[str, Any], out: TextIO, stop: Stop | None = None) -> None:
        self._job = job
        self._out = out
        self._stop = stop or Stop()
        self._folder = Path(job["folder"])
        self._recipe = make_recipe(job["request"], job["device"])
        self._prepared: Prepared | None = None
        self._choice: Choice | None = None
        self._fitted: FitResult | None = None

    def prepare(self) -> dict[str, Any]:
        """Reads, splits and encodes the table."""
        prepared = self._prepare()
        for name, reason in prepared.schema.ignored.items():
            self._say("log", f"column {name} is not used: {reason}", level="warning")
        rows = [len(split) for split in (prepared.training, prepared.validation)]
        rows.append(len(prepared.calibration))
        self._say(
            "log",
            f"{prepared.schema.target.task} of {prepared.schema.target.name} from "
            f"{len(prepared.schema.features)} features ({prepared.config.in_features} inputs); "
            f"rows: {rows[0]} training, {rows[1]} validation, {rows[2]} calibration",
        )
        n_folds = folds_of(prepared, self._recipe)
        if n_folds > 1:
            message = f"few rows: calibrated across {n_folds} folds, {n_folds - 1} more networks"
            self._say("log", message)
        return {}

    def train(self) -> dict[str, Any]:
        """Chooses p if that was asked for, and fits the network; both go on from where an
        interrupted run was."""
        fitted = self._fit()
        self._say("log", f"best epoch {fitted.best_epoch} of {len(fitted.history)}")
        return {}

    def calibrate(self) -> dict[str, Any]:
        """Calibrates, writes the artifact, and says whether it should be promoted."""
        prepared = self._prepare()
        provenance: dict[str, Any] = {
            "job": self._job["id"],
            "dataset_sha256": self._job["dataset_sha256"],
            "seed": self._recipe.seed,
            "torch": torch.__version__,
            "dropcast": importlib.metadata.version("dropcast"),
        }
        fitted = self._fit()
        if self._choice is not None:
            provenance["search"] = self._choice.describe()
        created_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        artifact = finish(prepared, fitted, created_at, provenance, self._fit_folds())
        staged = self._folder / "artifact"
        shutil.rmtree(staged, ignore_errors=True)
        sha256 = save_artifact(artifact, staged)
        card = artifact.card() | {"artifact_sha256": sha256}
        wish, rival = self._job["request"]["promote"], self._job["rival"]
        held_out = prepared.held_out
        # The comparison may need as much memory for the other's rows.
        del prepared
        self._prepared = self._fitted = None
        verdict = judge(artifact, held_out, wish, rival)
        return {"card": card, "verdict": asdict(verdict)}

    def _prepare(self) -> Prepared:
        if self._prepared is None:
            table = read_table(Path(self._job["file"]), self._job["format"])
            self._prepared = prepare(table, self._recipe)
        return self._prepared

    def _fit(self) -> FitResult:
        if self._fitted is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            torch.set_num_threads(self._threads(self._prepare()))
            if self._recipe.is_searched:
                self._search()
            prepared = self._prepare()
            clock = Clock(self._job["checkpoint_seconds"], self._stop)
            with self._stop.is_awaited():
                self._fitted = fit(
                    prepared.config,
                    prepared.training,
                    prepared.validation,
                    self._recipe.training,
                    on_epoch=lambda epoch: self._say("epoch", **describe_epoch(epoch, clock)),
                    checkpoint=self._folder / "checkpoint.safetensors",
                    should_checkpoint=clock.is_due,
                )
        return self._fitted

    def _fit_folds(self) -> list[Fold]:
        """The other folds' networks, if there are to be any, each from its last checkpoint.

        What can be learned from one fold's rows may not be from another's: from the same value
        in all of them, for one. Then the split alone calibrates, unless folds were asked for.
        """
        n_folds = folds_of(self._prepare(), self._recipe)
        if n_folds == 1:
            return []
        try:
            with self._stop.is_awaited():
                return fit_folds(
                    read_table(Path(self._job["file"]), self._job["format"]),
                    self._recipe,
                    n_folds,
                    folder=self._folder,
                    should_checkpoint=Clock(self._job["checkpoint_seconds"], self._stop).is_due,
                    on_fold=lambda number, best: self._say(
                        "log",
                        f"fold {number} of {n_folds}: best epoch {best}",
                        data={"fold": number, "folds": n_folds},
                    ),
                )
        except DataError as error:
            if self._recipe.calibration == "cross":
                raise
            message = f"calibrated on a split alone, as a fold cannot be learned from: {error}"
            self._say("log", message, level="warning")
            return []

    def _search(self) -> None:
        """Puts the p and the weight decay that are found into the recipe."""
        self._prepared, self._recipe, self._choice = choose_dropout(
            self._prepare(),
            self._recipe,
            on_trial=lambda trial: self._say("log", **describe_trial(trial)),
            record=self._folder / "search.json",
        )
        best = self._choice.best
        self._say(
            "log",
            f"chosen: p {best.p:g}, weight decay {best.weight_decay:g}, of trial {best.number}",
        )

    def _threads(self, prepared: Prepared) -> int:
        """One for small networks, whose products are over before a second thread is awake; it
        depends on nothing that changes between a run and its resumption."""
        training = self._recipe.training.resolved(len(prepared.training))
        assert training.batch_size is not None
        sizes = (prepared.config.in_features, *prepared.config.hidden)
        work = training.batch_size * sum(a * b for a, b in pairwise(sizes))
        return 1 if work < PARALLEL_WORK else self._job["threads"] or available_threads()

    def _say(self, kind: str, message: str, **more: Any) -> None:
        write(self._out, {"type": kind, "message": message, **more})


def write(out: TextIO, message: Mapping[str, Any]) -> None:
    """One JSON line, at once."""
    out.write(orjson.dumps(message).decode() + "\n")
    out.flush()


def main() -> None:
    """Reads the job, then stages, until the worker closes the pipe."""
    # What libraries print must not mix with our lines.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # The service answers requests on the same machine.
    os.nice(5)
    lines: queue.Queue[dict[str, Any]] = queue.Queue()
    stop = Stop()

    def listen(line: bytes) -> None:
        message = orjson.loads(line)
        if message.get("stop"):
            stop.request()
        else:
            lines.put(message)

    end_with_parent(listen)
    job = lines.get()
    configure_logging(job["log_level"], job["log_format"])
    trainer: Trainer | None = None
    while True:
        stage = lines.get()["stage"]
        try:
            trainer = trainer or Trainer(job, out, stop)
            result = getattr(trainer, stage)()
        except Exception as error:
            description = describe(error)
            unknown = error if description["code"] == "internal" else None
            log.warning("%s: %s failed: %s", job["id"], stage, error, exc_info=unknown)
            write(out, {"failed": description})
        else:
            write(out, {"done": result})


if __name__ == "__main__":
    main()
