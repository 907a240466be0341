"""Every target of speed, measured, with its verdict; on the page `docs/benchmarks/speed.md`, too.

Between two marks the page is written anew each time; what stands outside them is kept.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import against, engine, memory, regression, samplers, serving, training
from benchmarks.peers.environments import ROOT, Environments, NotInstallableError
from benchmarks.peers.serving import PEERS
from benchmarks.verdict import COLOURS, Row, print_rows

PAGE = ROOT / "docs" / "benchmarks" / "speed.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COMMAND = "make bench"


def run(arguments: argparse.Namespace) -> None:
    """Prints each row as soon as it is measured, then the table, and writes the page."""
    console = Console(width=150)
    environments = Environments(arguments.cache / "peers")
    found: list[Row] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        installing = _install(environments, progress)
        began, load = time.monotonic(), os.getloadavg()[0]
        with TemporaryDirectory() as folder:
            artifact, home, weights = _prepare(Path(folder), progress)
            parts: dict[str, Callable[[], Iterable[Row]]] = {
                "answers over HTTP": lambda: serving.rows(artifact, home),
                "others' servers": lambda: against.rows(home, weights, environments),
                "the engine": engine.rows,
                "others' samplers": lambda: samplers.rows(environments),
                "training": training.rows,
                "memory": memory.rows,
            }
            shown = progress.add_task("", total=len(parts))
            for name, rows in parts.items():
                progress.update(shown, description=name)
                for row in rows():
                    found.append(row)
                    progress.console.print(
                        f"[{COLOURS[row.verdict]}]{row.verdict}[/]  {escape(row.what)}: "
                        f"{row.figure} ({row.bound})"
                    )
                progress.advance(shown)
    print_rows(found, "Speed", console)
    seconds = time.monotonic() - began
    PAGE.write_text(renew(PAGE.read_text(), "\n".join(_page(found, seconds, installing, load))))
    console.print(f"{seconds / 60:.1f} minutes; the page is {PAGE.relative_to(ROOT)}")


def renew(page: str, measured: str) -> str:
    """The page with that between its marks.

    Raises:
        ValueError: it has not both marks, in this order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN} and, after it, {END}")
    return f"{before}{BEGIN}\n{measured}\n{END}{after}"


def _install(environments: Environments, progress: Progress) -> float:
    """Seconds of installing what is not there yet; whatever fails becomes a row later."""
    wanted = [(peer.title, peer.folder, peer.requirements) for peer in PEERS]
    wanted += [(s.title, s.name, s.requirements) for s in samplers.SAMPLERS]
    began = time.monotonic()
    shown = progress.add_task("", total=len(wanted))
    for title, name, requirements in wanted:
        progress.update(shown, description=f"installing {title}, if it is not there")
        try:
            environments.python(name, requirements)
        except NotInstallableError as error:
            progress.console.print(f"{title}: {escape(str(error))}")
        progress.advance(shown)
    progress.remove_task(shown)
    return time.monotonic() - began


def _prepare(folder: Path, progress: Progress) -> tuple[regression.Artifact, Path, Path]:
    """The artifact, a home that has it, and its weights in a file."""
    shown = progress.add_task("training the network", total=None)
    artifact, home, weights = regression.train(), folder / "home", folder / "weights.safetensors"
    regression.install(artifact, home)
    regression.write_weights(artifact.network, weights)
    progress.remove_task(shown)
    return artifact, home, weights


def _page(rows: Sequence[Row], seconds: float, installing: float, load: float) -> Iterator[str]:
    """Lines of Markdown."""
    day, met = datetime.datetime.now(datetime.UTC).date(), sum(row.met for row in rows)
    yield f"{day}, `{COMMAND}`: {met} of {len(rows)} targets met, in {seconds / 60:.0f} minutes"
    yield f"and {installing / 60:.0f} of installing. {_processor()}, {os.cpu_count()} cores; "
    yield f"{platform.system()}, Python {platform.python_version()}, {_versions()}. Load average"
    yield f"when it began: {load:.1f}."
    yield ""
    yield "| what | measured | target | verdict | figures |"
    yield "|---|---|---|---|---|"
    for row in rows:
        verdict = row.verdict if row.met else f"**{row.verdict}**"
        cells = (row.what, row.figure, row.bound, verdict, row.note)
        yield "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def _versions() -> str:
    names = ("torch", "fastapi", "uvicorn", "uvloop", "httptools")
    installed = {found.name: found.version for found in importlib.metadata.distributions()}
    return ", ".join(f"{name} {installed.get(name, 'is not there')}" for name in names)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
