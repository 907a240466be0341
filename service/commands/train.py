"""`dropcast train`: a job, its progress, and a table of metrics."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.errors import DropcastError
from service.commands.console import refuse, say
from service.database import Database
from service.datasets import Datasets, limits_of
from service.errors import ConflictError, ServiceError
from service.job_rows import FINISHED
from service.jobs import Jobs
from service.processes import NAME_TAKEN, STOP_SECONDS, end, lock_name, start_child
from service.schemas import TrainingJobRequest, parse
from service.settings import Settings
from service.tables import Job

LOOK_SECONDS = 0.2
RETRY_SECONDS = 2.0
CANCEL_SECONDS = 10.0


def train(settings: Settings, file: Path, request: dict[str, Any]) -> int:
    """Queues a job, sees to it that a worker runs, and shows its progress."""
    console = Console()
    database = Database(settings.database)
    database.migrate()
    jobs = Jobs(database, most_queued=settings.max_queued_jobs)
    try:
        dataset = Datasets(database, settings.home, settings.storage, limits_of(settings)).add_file(
            file.absolute(), file.name
        )
        job = jobs.submit(parse(TrainingJobRequest, request | {"dataset": dataset.id}))
    except (ServiceError, DropcastError) as error:
        return refuse(str(error))
    worker = _Worker(settings)
    try:
        job, code = _follow(jobs, job, console, worker)
    except KeyboardInterrupt:
        try:
            job = jobs.cancel(job.id)
            stop = time.monotonic() + CANCEL_SECONDS
            while job.status not in FINISHED and time.monotonic() < stop:
                time.sleep(LOOK_SECONDS)
                job = jobs.get(job.id)
        except ConflictError as error:
            return refuse(str(error))
        fate = "is" if job.status == "cancelled" else "will be"
        say(console, f"{job.id} {fate} cancelled")
        return 130
    finally:
        worker.close()
    if job.status not in FINISHED:
        return refuse(
            f"the worker ended with code {code}; {job.id} stays {job.status}, and goes on from "
            "where it was when a worker runs again: dropcast worker"
        )
    if job.status != "succeeded":
        reason = job.error["message"] if job.error else "see its events"
        return refuse(f"{job.id} {job.status}: {reason}")
    assert job.metrics is not None
    assert job.result is not None
    console.print(_metrics_table(job))
    which = f"version {job.result['version']}"
    fate = f"production is now {which}" if job.result["promoted"] else f"{which} was not promoted"
    say(console, f"{fate}: {job.result['promotion']}")
    return 0


class _Worker:
    """A worker for this command's time, as long as no other process has one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._looked = -RETRY_SECONDS

    def look(self) -> int | None:
        """Starts it when there is none; its exit code, if it has died."""
        code = self._child.poll() if self._child is not None else NAME_TAKEN
        if code != NAME_TAKEN:
            return code
        if time.monotonic() - self._looked >= RETRY_SECONDS:
            self._looked = time.monotonic()
            self._child = self._start()
        return None

    def close(self) -> None:
        if self._child is not None:
            end(self._child, grace_seconds=STOP_SECONDS)

    def _start(self) -> subprocess.Popen[bytes] | None:
        lock = lock_name(self._settings.home, self._settings.worker_id)
        if lock is None:
            return None
        lock.close()
        # Its log would run through the progress bar.
        quiet = {"DROPCAST_LOG_LEVEL": "error"}
        return start_child("service.cli", ["worker", "--with-parent"], environment=quiet)


def _follow(jobs: Jobs, job: Job, console: Console, worker: _Worker) -> tuple[Job, int | None]:
    """The job when it has ended; or as it is when our worker has, with its exit code."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    told, code, fold = 0, None, ""
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{job.request['model']}: waiting for the worker", total=1.0)
        while job.status not in FINISHED:
            time.sleep(LOOK_SECONDS)
            code = worker.look()
            job = jobs.get(job.id)
            events, _ = jobs.events(job.id, after=told, limit=1000, ascending=True)
            for event in events:
                told = event.id
                fold = event.message if "fold" in event.data else fold
                if event.level == "warning":
                    say(console, event.message, style="yellow")
                elif "trial" in event.data:
                    say(console, event.message)
            completed = job.progress["fraction"] if job.progress else 0.0
            bar.update(task, completed=completed, description=_stage(jobs, job, fold))
            if code is not None:
                break
        if job.status == "succeeded":
            bar.update(task, completed=1.0)
    return job, code


def _stage(jobs: Jobs, job: Job, fold: str) -> str:
    """What the job does at the moment, or waits for; `fold` is the last one that was fitted."""
    if fold:
        what = f"calibrating, {fold}"
    elif job.progress is not None:
        what = f"epoch {job.progress['epoch']} of at most {job.progress['epochs']}"
    elif job.status != "queued":
        what = "preparing"
    elif before := jobs.page("running", None, 1)[0] or jobs.page("queued", job.id, 1)[0]:
        what = f"waits for {before[0].id} (model {before[0].request['model']})"
    else:
        what = "waiting for the worker"
    return f"{job.request['model']}: {what}"


def _metrics_table(job: Job) -> Table:
    assert job.metrics is not None
    assert job.result is not None
    evaluated, sampled = job.metrics["eval_mode"], job.metrics["mc_mode"]
    rows = job.metrics["rows"]["calibration"]
    table = Table(
        f"on {rows} held-out rows",
        "eval mode",
        f"MC mode, {sampled['n_samples']} samples",
        title=f"{job.result['model']} version {job.result['version']}",
    )
    for name, value in evaluated.items():
        if isinstance(value, float):
            table.add_row(name, f"{value:.4g}", f"{sampled[name]:.4g}")
    return table
