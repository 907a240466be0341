"""The two example models, trained at the first start by the same jobs as anybody's."""

from __future__ import annotations

import importlib.resources
import logging

from service.datasets import Datasets
from service.jobs import Jobs
from service.registry import Registry
from service.schemas import TrainingJobRequest

log = logging.getLogger(__name__)

TARGETS = {"concrete": "compressive_strength", "penguins": "species"}


def submit(registry: Registry, datasets: Datasets, jobs: Jobs) -> None:
    """Queues their training if there is no model at all; a second time nothing."""
    if registry.snapshot():
        return
    for name, target in TARGETS.items():
        source = importlib.resources.files(__package__) / f"{name}.csv"
        with importlib.resources.as_file(source) as path:
            dataset = datasets.add_file(path, f"{name}.csv")
        request = TrainingJobRequest(
            model=name,
            dataset=dataset.id,
            target=target,
            calibration="split",  # both within half a minute
            metadata={"example": "true"},
        )
        key = f"example-{name}-{dataset.sha256[:12]}"
        # A known id, which /docs has for an example.
        job = jobs.submit(request, idempotency_key=key, job_id=f"job_example_{name}")
        log.info("example model %s: %s is %s", name, job.id, job.status)
