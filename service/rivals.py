"""The version that a new one has to beat, as the process that compares them is told of it."""

from __future__ import annotations

from typing import Any

from service.datasets import Datasets
from service.errors import NotFoundError
from service.job_runs import JobRuns
from service.registry import PRODUCTION, Registry


def describe_rival(
    model: str, registry: Registry, runs: JobRuns, datasets: Datasets
) -> dict[str, Any] | None:
    """`version` and `folder` of the one in production, and as `learned` the `request`, `file` and
    `format` it was trained from, or null if these are not here; None if nothing is in production.
    """
    found = registry.find_artifact(model, PRODUCTION)
    if found is None:
        return None
    version, folder = found
    return {
        "version": version,
        "folder": str(folder),
        "learned": _learned(model, version, registry, runs, datasets),
    }


def _learned(
    model: str, version: int, registry: Registry, runs: JobRuns, datasets: Datasets
) -> dict[str, Any] | None:
    try:
        provenance = registry.card(model, str(version))["provenance"]
        job = runs.get(str(provenance.get("job")))
        dataset = datasets.get(job.dataset)
    except NotFoundError:
        return None
    if dataset.sha256 != provenance.get("dataset_sha256"):
        return None
    file = datasets.path(dataset.sha256)
    return {"request": job.request, "file": str(file), "format": dataset.format}
