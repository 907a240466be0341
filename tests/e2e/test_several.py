"""Several API processes behind one port."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from models.recipe import Recipe
from models.training_run import TrainingOptions
from tests.e2e.conftest import Service
from tests.http.conftest import STRENGTH_ROW, publish, strength_table

SERVE = (sys.executable, "-m", "service.cli", "serve", "--no-worker", "--workers", "2")
ROUNDS = 20


def ask(one: Service) -> httpx.Response:
    """On a connection of its own, which the kernel gives to one of the processes."""
    url = f"{one.client.base_url}/v1/models/strength:predict"
    return httpx.post(url, json={"instances": [STRENGTH_ROW]}, timeout=30)


def processes(one: Service) -> set[str]:
    """Those whose memory `/metrics` tells of."""
    text = httpx.get(f"{one.client.base_url}/metrics", timeout=30).text
    return set(re.findall(r'dropcast_process_resident_memory_bytes\{process="(\d+)"\}', text))


def api_pids(one: Service) -> list[int]:
    found = []
    for pid in one.children():
        with contextlib.suppress(OSError):
            if b"--with-parent" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_several_processes_are_one_service(service: Callable[..., Service], tmp_path: Path) -> None:
    one = service()
    options = TrainingOptions(epochs=2, batch_size=32)
    recipe = Recipe("strength", hidden=(16,), training=options)
    for _ in range(2):
        publish(one.home, "strength", strength_table(), recipe)
    one.start(SERVE)
    one.wait_until(lambda: len(processes(one)) == 2, 60)

    answers = [ask(one) for _ in range(ROUNDS)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    # Whichever is asked knows what both have counted.
    metrics = httpx.get(f"{one.client.base_url}/metrics", timeout=30).text
    counted = re.search(r'inferences_total\{[^}]*version="2"[^}]*\} (\d+)', metrics)
    assert counted is not None
    assert int(counted[1]) == ROUNDS

    # An alias that one of them moves moves in both.
    moved = one.client.put("/v1/models/strength/aliases/production", json={"version": 1})
    assert moved.status_code == 200
    one.wait_until(lambda: {ask(one).json()["version"] for _ in range(10)} == {1}, 10)

    # One that is killed is started again, and the other answers meanwhile.
    first, second = sorted(api_pids(one))
    os.kill(first, signal.SIGKILL)
    one.wait_until(lambda: len(set(api_pids(one)) - {first, second}) == 1, 60)
    one.wait_until(lambda: len(processes(one)) == 2, 60)
    assert ask(one).status_code == 200
    assert "an API process was ended by signal 9 and is started again" in one.log.read_text()

    assert one.stop() == 0
    assert api_pids(one) == []


def test_several_processes_that_cannot_serve_end(service: Callable[..., Service]) -> None:
    ended = service(device="cuda:99").command("serve", "--no-worker", "--workers", "2")
    assert ended.returncode == 1
    assert "device cuda:99 is not here" in ended.stdout + ended.stderr
