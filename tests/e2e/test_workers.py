"""Two workers on one PostgreSQL, which are killed, stopped and paused, and lose their database."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet import CONCRETE, Fleet
from benchmarks.postgresql import PostgreSQL

EPOCHS = 60
REQUEST = {
    "target": "compressive_strength",
    "calibration": "split",
    "hyperparameters": {
        "hidden": [32, 32], "epochs": EPOCHS, "early_stopping_patience": EPOCHS,
    },
}  # fmt: skip


class Site:
    """The fleet, its database, and what every job should end as."""

    def __init__(self, fleet: Fleet, server: PostgreSQL, dataset: str) -> None:
        self.fleet = fleet
        self.server = server
        self.dataset = dataset
        job = self.submit("calm")
        assert fleet.finish(job)["status"] == "succeeded", fleet.job(job)
        self.weights = fleet.weights("calm")

    def submit(self, model: str) -> str:
        return self.fleet.submit(model, model=model, dataset=self.dataset, **REQUEST)

    def begin(self, model: str) -> tuple[str, str]:
        """A job in the middle of its training, and the worker that runs it."""
        job = self.submit(model)
        self.fleet.wait_until(lambda: self.fleet.epoch(job) > 5)
        worker = self.fleet.runner(job)
        assert worker is not None
        return job, worker

    def check(self, job: str, model: str) -> list[dict[str, Any]]:
        """That it ends as an undisturbed one does; its events."""
        ended = self.fleet.finish(job)
        assert ended["status"] == "succeeded", ended["error"]
        assert ended["result"]["version"] == 1
        assert len(self.fleet.ask("GET", f"/v1/models/{model}").json()["versions"]) == 1
        assert self.fleet.weights(model) == self.weights
        assert not list((self.fleet.home / "jobs").iterdir()), "nothing is left lying about"
        return self.fleet.events(job)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pytest.importorskip("pgserver", reason="the package pgserver is not installed")
    folder = tmp_path_factory.mktemp("site")
    # Another run of pytest that starts closes pytest's folders to the user that the server is.
    with tempfile.TemporaryDirectory() as data:
        server = PostgreSQL(Path(data) / "postgresql")
        # No checkpoints but those that are asked for: what a worker leaves when it is stopped.
        fleet = Fleet(folder / "home", server.url, worker_lost_seconds=2, checkpoint_seconds=1000)
        try:
            fleet.start_api()
            for name in ("worker-1", "worker-2"):
                fleet.start_worker(name)
            yield Site(fleet, server, fleet.upload(CONCRETE))
        finally:
            fleet.close()
            server.close()


def told(events: list[dict[str, Any]]) -> list[str]:
    """Where the job was, one status after another."""
    statuses = [event for event in events if event["type"] == "status"]
    return [event["data"].get("worker", event["message"]) for event in statuses]


def test_a_worker_is_killed_and_the_other_takes_its_job(site: Site) -> None:
    job, worker = site.begin("killed")
    site.fleet.send(worker, signal.SIGKILL)
    events = site.check(job, "killed")
    other = {"worker-1": "worker-2", "worker-2": "worker-1"}[worker]
    why = f"queued again: {worker} has vanished"
    assert told(events) == ["queued", worker, why, other, "succeeded"]
    site.fleet.revive()


def test_a_worker_that_is_stopped_hands_its_job_over_with_a_last_checkpoint(site: Site) -> None:
    job, worker = site.begin("stopped")
    site.fleet.send(worker, signal.SIGTERM)
    assert site.fleet.members[worker].wait(20) == 0
    events = site.check(job, "stopped")
    assert told(events)[2] == f"queued again: {worker} was stopped"
    epochs = [event["data"]["epoch"] for event in events if event["type"] == "epoch"]
    assert epochs[-1] == EPOCHS
    assert epochs.count(1) == 1, "it went on from the checkpoint of the moment it was stopped"
    site.fleet.revive()


def test_a_worker_that_was_paused_comes_back_and_cannot_publish(site: Site) -> None:
    """It and its child are stopped in the middle, as a machine that hangs, and go on when another
    worker has done the work."""
    job, worker = site.begin("paused")
    paused = [*site.fleet.children(worker), site.fleet.members[worker].pid]
    assert len(paused) == 2
    for pid in reversed(paused):
        os.kill(pid, signal.SIGSTOP)
    events = site.check(job, "paused")
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    site.fleet.wait_until(lambda: not site.fleet.children(worker))
    assert site.fleet.members[worker].poll() is None, "it goes on as a worker without jobs"
    assert site.check(job, "paused") == events


def test_the_database_goes_away_and_comes_back(site: Site) -> None:
    """Requests are told to come again; the job, in whose training it happens, goes on."""
    fleet = site.fleet
    job, worker = site.begin("alone")
    processes = dict(fleet.members)
    site.server.stop()
    try:
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            for path in ("/v1/models", f"/v1/training_jobs/{job}", "/health/ready"):
                response = fleet.client.get(path)
                assert response.status_code == 503, response.text
                assert int(response.headers["Retry-After"]) > 0
            with contextlib.suppress(subprocess.TimeoutExpired):
                fleet.members[worker].wait(0.2)
    finally:
        site.server.start()
    events = site.check(job, "alone")
    assert told(events) == ["queued", worker, "succeeded"]
    epochs = [event["data"]["epoch"] for event in events if event["type"] == "epoch"]
    assert epochs == list(range(1, EPOCHS + 1)), "what was to be told has waited"
    assert fleet.members == processes
    assert all(process.poll() is None for process in processes.values())


def test_a_full_disk_fails_the_job_which_goes_on_when_there_is_room(site: Site) -> None:
    folder = site.fleet.home / "jobs"
    command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode()}")
    try:
        job = site.submit("full")
        ended = site.fleet.finish(job)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "disk_full")
        assert "free some space, then resume" in ended["error"]["message"]
        assert site.fleet.ask("GET", "/v1/models/full").status_code == 404
    finally:
        subprocess.run(["umount", folder], check=True)
    site.fleet.act(job, "resume")
    site.check(job, "full")


def test_the_state_of_the_home(site: Site) -> None:
    """After all that: one folder for each version, and no process but those that should be."""
    homes = Path(site.fleet.home / "models")
    assert all(len(list(model.iterdir())) == 1 for model in homes.iterdir())
    assert not any(site.fleet.children(name) for name in site.fleet.members)
