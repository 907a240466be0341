"""Production moves under load between two API processes; `python -m benchmarks swap` does it 50
times."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from benchmarks.swap import MODEL, swap
from models.recipe import Recipe
from models.training_run import TrainingOptions
from tests.e2e.conftest import API_ALONE, Service
from tests.http.conftest import publish


def test_no_request_fails_and_no_answer_is_stale_while_production_moves(
    service: Callable[..., Service],
) -> None:
    first, other = service(), service()
    other.environment["DROPCAST_HOME"] = str(first.home)
    a, b = np.random.default_rng(0).normal(size=(2, 300))
    for seed in (0, 1):
        options = TrainingOptions(epochs=3, seed=seed)
        recipe = Recipe("y", hidden=(64, 64), training=options, seed=seed)
        publish(first.home, MODEL, pa.table({"a": a, "b": b, "y": a - b}), recipe)
    for one in (first, other):
        one.start(API_ALONE)
    report = swap([first.client, other.client], 6)
    assert report.failures == []
    assert report.stale == []
    assert report.requests > 20
    assert len(report.propagation_seconds) == 6
