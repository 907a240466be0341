"""Finished pieces of a benchmark, kept as JSON lines, so that one cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

Piece = dict[str, Any]


def compute(
    measure: Callable[..., Piece],
    tasks: Sequence[tuple[Any, ...]],
    cache: Path,
    jobs: int,
    console: Console,
) -> list[Piece]:
    """`measure(*task)` of every task, in processes of one thread each; those that the cache
    file holds are not computed again. A task's values have to be plain and decide its result."""
    done = dict(_read(cache))
    missing = [task for task in tasks if json.dumps(task) not in done]
    cache.parent.mkdir(parents=True, exist_ok=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True) as bar,
        ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool,
        cache.open("a") as file,
    ):
        shown = bar.add_task(cache.stem, total=len(tasks), completed=len(tasks) - len(missing))
        futures = {pool.submit(measure, *task): json.dumps(task) for task in missing}
        for future in as_completed(futures):
            key = futures[future]
            done[key] = future.result()
            print(json.dumps({"task": json.loads(key), "piece": done[key]}), file=file, flush=True)
            bar.advance(shown)
    return [done[json.dumps(task)] for task in tasks]


def _read(cache: Path) -> Iterator[tuple[str, Piece]]:
    """A last line that was cut off does not count."""
    if cache.exists():
        for line in cache.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            yield json.dumps(entry["task"]), entry["piece"]
