"""How much memory an answer takes: a large request, put to a service of its own."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from benchmarks.local_service import LocalService
from benchmarks.verdict import Row, print_rows

N_ROWS, N_SAMPLES = 10_000, 10_000
TARGET_MEGABYTES = 300.0
ROW = {
    "cement": 540, "blast_furnace_slag": 0, "fly_ash": 0, "water": 162, "superplasticizer": 2.5,
    "coarse_aggregate": 1040, "fine_aggregate": 676, "age": 28,
}  # fmt: skip


def run(_: argparse.Namespace) -> None:
    """Prints the row."""
    print_rows(rows(), "Memory of one answer")


def rows(n_rows: int = N_ROWS, n_samples: int = N_SAMPLES) -> list[Row]:
    """Megabytes at the peak of one `:uncertainty` of so many rows and samples, above what the same
    process takes at rest, one row answered; by the textbook estimator, and without quantiles, as
    these would take most of the time."""
    instances = [ROW | {"age": 1 + i % 365} for i in range(n_rows)]
    with (
        tempfile.TemporaryDirectory() as home,
        LocalService(
            Path(home), examples="true", max_work=str(10**16), request_seconds="3600"
        ) as service,
    ):
        service.until_trained()
        url = "/v1/models/concrete:uncertainty"
        for asked, samples in ((instances[:1], 100), (instances, n_samples)):
            before = _megabytes(service.pid, "VmRSS")
            body = {"instances": asked, "n_samples": samples, "estimator": "mc", "quantiles": []}
            service.client.post(url, json=body).raise_for_status()
        above = _megabytes(service.pid, "VmHWM") - before
    name = f"peak above rest of an answer of N={n_rows:,}, T={n_samples:,}"
    note = f"{before:.0f} MB at rest"
    return [Row(name, above, TARGET_MEGABYTES, at_most=True, unit="MB", note=note)]


def _megabytes(pid: int, field: str) -> float:
    """Resident memory of a process: now (VmRSS) or at its highest so far (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1e3
