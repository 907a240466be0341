"""Production moves under load between two API processes; `python -m benchmarks swap` does it 50
times."""

import sys
from collections.abc import Callable

from benchmarks.swap import swap, train
from tests.e2e.conftest import Service

SERVE = (sys.executable, "-m", "service.cli", "serve")


def test_no_request_fails_and_no_answer_is_stale_while_production_moves(
    service: Callable[..., Service],
) -> None:
    first = service()
    first.start()
    other = service()
    other.environment["DROPCAST_HOME"] = str(first.home)
    other.start([*SERVE, "--no-worker"])
    train(first.client)
    report = swap([first.client, other.client], 6)
    assert report.failures == []
    assert report.stale == []
    assert report.requests > 20
    assert len(report.propagation_seconds) == 6
