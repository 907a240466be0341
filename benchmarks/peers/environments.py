"""Environments that a benchmark makes for itself: one for each peer, kept for the next time."""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 1500
MADE = "installed.txt"


class NotInstallableError(Exception):
    """A package cannot be installed here; the text is pip's reason."""


class Environments:
    """Those in one folder. What could not be installed is not tried again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failures: dict[str, str] = {}

    def python(self, name: str, requirements: Sequence[str]) -> Path:
        """The Python of the environment of that name with these packages, torch and safetensors,
        of the versions that the lock names; made if it is not there, or not of these.

        Raises:
            NotInstallableError: pip says so, or takes too long.
        """
        if name in self._failures:
            raise NotInstallableError(self._failures[name])
        try:
            return _install(self._folder / name, [*requirements, *pinned("torch", "safetensors")])
        except NotInstallableError as error:
            self._failures[name] = str(error)
            raise


def _install(folder: Path, wanted: Sequence[str]) -> Path:
    python, made = folder / "bin" / "python", folder / MADE
    text = "\n".join(wanted) + "\n"
    if made.exists() and made.read_text() == text:
        return python
    if not python.exists():
        venv.create(folder, with_pip=True)
    try:
        ran = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *wanted],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotInstallableError(f"not installed after {INSTALL_SECONDS} s") from None
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstallableError((lines or ran.stderr.splitlines() or ["pip failed"])[-1])
    made.write_text(text)
    return python


def pinned(*names: str) -> list[str]:
    """The requirements of these names in the lock."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = {line.partition("==")[0]: line for line in lines}
    return [found[name] for name in names]
