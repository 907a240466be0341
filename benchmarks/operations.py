"""What an operator asks first: seconds until it answers, and memory when idle."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.local_service import LocalService

REPEATS = 5


def run(_: argparse.Namespace) -> None:
    """Prints start-up times and resident memory of a service with its two example models."""
    table = Table("what", "figure", title="Operations")
    with tempfile.TemporaryDirectory() as folder:
        service = LocalService(Path(folder), examples="true")
        first = service.start()
        table.add_row("first start: ready", f"{first:.1f} s")
        table.add_row("first start: both example models answer", f"{service.until_trained():.1f} s")
        service.stop()
        again = [_restart(service) for _ in range(REPEATS)]
        table.add_row(f"later starts: ready (median of {REPEATS})", f"{median(again):.1f} s")
        service.start()
        time.sleep(2.0)
        for name, resident in service.memory().items():
            table.add_row(f"idle memory of the {name} (resident)", f"{resident:.0f} MB")
        service.stop()
    imports = [_seconds(["-c", "import torch, fastapi"]) for _ in range(REPEATS)]
    table.add_row(
        f"later start against import torch, fastapi ({median(imports):.1f} s)",
        f"{median(again) / median(imports):.2f}×",
    )
    Console(width=100).print(table)


def _restart(service: LocalService) -> float:
    seconds = service.start()
    service.stop()
    return seconds


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - started
