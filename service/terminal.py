"""What the commands show: progress bars while it lasts, tables at the end."""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.errors import DropcastError, EncodeError
from service.database import Database, Job
from service.datasets import Datasets, read_rows
from service.errors import ServiceError
from service.inference import Address, Inference
from service.job_rows import FINISHED
from service.jobs import Jobs
from service.processes import end, start_child, try_lock
from service.registry import Registry
from service.schemas import TrainingJobRequest, UncertaintyRequest
from service.settings import Settings

MOST_SHOWN = 20
BATCH_ROWS = 1000


def train(settings: Settings, file: Path, request: dict[str, Any]) -> int:
    """Queues a job, sees to it that a worker runs, and shows its progress."""
    console = Console()
    database = Database(settings.database)
    database.migrate()
    jobs = Jobs(database, most_queued=settings.max_queued_jobs)
    try:
        dataset = Datasets(database, settings.home).add_file(file.absolute(), file.name)
        job = jobs.submit(TrainingJobRequest(**request, dataset=dataset.id))
    except (ServiceError, DropcastError) as error:
        return _refuse(str(error))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return _refuse("\n".join(faults))
    lock = try_lock(settings.home / "workers" / f"{settings.worker_id}.lock")
    worker = None
    if lock is not None:
        lock.close()
        # Its log would run through the progress bar.
        quiet = {"DROPCAST_LOG_LEVEL": "error"}
        worker = start_child("service.cli", ["worker", "--with-parent"], environment=quiet)
    try:
        job = _follow(jobs, job, console)
    except KeyboardInterrupt:
        jobs.cancel(job.id)
        console.print(f"{job.id} is cancelled")
        return 130
    finally:
        if worker is not None:
            end(worker, grace_seconds=5.0)
    if job.status != "succeeded":
        reason = job.error["message"] if job.error else "see its events"
        return _refuse(f"{job.id} {job.status}: {reason}")
    assert job.metrics is not None
    assert job.result is not None
    console.print(_metrics_table(job))
    return 0


def predict(
    settings: Settings, name: str, file: Path, version: int | None, output: Path | None
) -> int:
    """Predictions of a file's rows, printed or written."""
    return _ask(settings, name, file, version, None, output)


def uncertainty(
    settings: Settings,
    name: str,
    file: Path,
    version: int | None,
    options: dict[str, Any],
    output: Path | None,
) -> int:
    """The same with uncertainty."""
    return _ask(settings, name, file, version, options, output)


def models(settings: Settings) -> None:
    """A table of models."""
    database = Database(settings.database)
    database.migrate()
    found, _ = Registry(database, settings.home).list_models(None, 1000)
    table = Table("model", "task", "target", "versions", "aliases", "held-out score")
    for model in found:
        newest = model["versions"][0]
        aliases = ", ".join(f"{name} → {number}" for name, number in model["aliases"].items())
        numbers = ", ".join(str(card["version"]) for card in model["versions"])
        table.add_row(
            model["model"], model["task"], newest["target"], numbers, aliases, _score(newest)
        )
    Console().print(
        table if found else "there are no models yet: dropcast train FILE --target COLUMN"
    )


def _follow(jobs: Jobs, job: Job, console: Console) -> Job:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{job.request['model']}: waiting for the worker", total=1.0)
        while job.status not in FINISHED:
            time.sleep(0.2)
            job = jobs.get(job.id)
            if job.progress is not None:
                epoch, epochs = job.progress["epoch"], job.progress["epochs"]
                text = f"{job.request['model']}: epoch {epoch} of at most {epochs}"
                bar.update(task, completed=job.progress["fraction"], description=text)
            elif job.status == "running":
                bar.update(task, description=f"{job.request['model']}: preparing")
        if job.status == "succeeded":
            bar.update(task, completed=1.0)
    return job


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
        caption=job.result["promotion"],
    )
    for name, value in evaluated.items():
        table.add_row(name, f"{value:.4g}", f"{sampled[name]:.4g}")
    return table


def _score(card: dict[str, Any]) -> str:
    metrics = card["metrics"]["mc_mode"]
    name = "accuracy" if "accuracy" in metrics else "rmse"
    return f"{name} {metrics[name]:.4g}"


def _ask(
    settings: Settings,
    name: str,
    file: Path,
    version: int | None,
    options: dict[str, Any] | None,
    output: Path | None,
) -> int:
    try:
        rows = asyncio.run(_answers(settings, name, file, version, options))
    except EncodeError as error:
        first = error.problems[0]
        return _refuse(f"{file.name}, row {first.row + 1}, {first.feature}: {first.message}")
    except (ServiceError, DropcastError) as error:
        return _refuse(str(error))
    flat = [_flatten(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    if output is not None:
        _write_csv(output, names, flat)
        Console().print(f"{len(flat)} rows written to {output}")
        return 0
    console = Console()
    if not console.is_terminal:
        _write_csv(Path("/dev/stdout"), names, flat)
        return 0
    table = Table(*names)
    for row in flat[:MOST_SHOWN]:
        table.add_row(*(_shown(row.get(name, "")) for name in names))
    console.print(table)
    if len(flat) > MOST_SHOWN:
        console.print(f"… {len(flat) - MOST_SHOWN} more: --output FILE writes them all")
    return 0


async def _answers(
    settings: Settings, name: str, file: Path, version: int | None, options: dict[str, Any] | None
) -> list[dict[str, Any]]:
    database = Database(settings.database)
    database.migrate()
    inference = Inference(settings, Registry(database, settings.home))
    address = Address(name, version=None if version is None else str(version))
    loaded = await inference.find(address)
    instances = read_rows(file, [feature.name for feature in loaded.artifact.schema.features])
    rows: list[dict[str, Any]] = []
    for start in range(0, len(instances), BATCH_ROWS):
        batch = instances[start : start + BATCH_ROWS]
        if options is None:
            answer = await inference.predict(address, batch)
        else:
            request = UncertaintyRequest(instances=batch, **options)
            answer = await inference.uncertainty(address, request)
        rows += answer["predictions"]
    return rows


def _flatten(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as columns named with dots, lists as texts."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = " ".join(value) if isinstance(value, list) else value
    return flat


def _write_csv(path: Path, names: Sequence[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _refuse(message: str) -> int:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False)
    return 1
