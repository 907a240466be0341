"""Where the runs of a job keep their checkpoints: each in a folder of its own.

A run that is thought dead may still write. It does so into its own folder; its successor has
begun with links to what was there, and checkpoints are replaced, never written into.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def open_folder(job: Path, attempt: int, device: str) -> Path:
    """The folder of that attempt, made with the checkpoints of the one before if they are of the
    same kind of device: only then do they lead to the same weights."""
    kind = device.partition(":")[0]
    folder = job / f"{attempt}-{kind}"
    if folder.exists():
        return folder
    making = job / f"{folder.name}.partial"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    before = [old for old in job.glob(f"*-{kind}") if _attempt(old) < attempt]
    if before:
        for file in max(before, key=_attempt).iterdir():
            if file.is_file() and file.suffix != ".partial":
                _link(file, making / file.name)
    making.rename(folder)
    for old in job.iterdir():
        if _attempt(old) < attempt:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _attempt(folder: Path) -> int:
    number = folder.name.partition("-")[0]
    return int(number) if number.isdigit() else 0


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:
        # Some file systems have no links.
        shutil.copy2(file, place)
