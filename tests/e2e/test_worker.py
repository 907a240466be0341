"""A worker whose database fails it once, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from service.database import Database
from service.datasets import Datasets
from service.jobs import Jobs
from service.schemas import TrainingJobRequest
from service.settings import Settings
from tests.e2e.conftest import PENGUINS, ROOT

# The worker, but its second claim breaks in a way that nobody has foreseen.
FAULTY = """
from service.attempt import Attempt
from service.settings import Settings
from service.worker import Worker

def check(*_):
    raise ZeroDivisionError

Attempt._check = check
Worker(Settings()).run()
"""


def test_a_job_whose_first_step_broke_is_not_left_running(tmp_path: Path) -> None:
    database = Database(Settings(home=tmp_path).database)
    database.migrate()
    dataset = Datasets(database, tmp_path).add_file(PENGUINS, "penguins.csv").id
    jobs = Jobs(database, most_queued=1)
    job = jobs.submit(TrainingJobRequest(model="m", dataset=dataset, target="species")).id
    environment = os.environ | {"DROPCAST_HOME": str(tmp_path)}
    worker = subprocess.Popen([sys.executable, "-c", FAULTY], cwd=ROOT, env=environment)
    try:
        for _ in range(300):
            if jobs.get(job).status == "failed":
                break
            assert worker.poll() is None
            with_patience(worker)
        ended = jobs.get(job)
        assert (ended.status, ended.error["code"]) == ("failed", "internal")
        assert jobs.resume(job).status == "queued"
    finally:
        worker.terminate()
        worker.wait(20)
        database.close()


def with_patience(process: subprocess.Popen) -> None:
    """A fifth of a second, or until it ends."""
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        return
