"""What a job that cannot end well ends with: attempts in this process, their children real."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from service.attempt import MOST_DEATHS, Attempt
from service.database import Database
from service.datasets import Datasets
from service.job_order import Devices
from service.job_runs import JobRuns, Lease, Report
from service.jobs import Jobs
from service.processes import start_child
from service.registry import Registry
from service.schemas import TrainingJobRequest
from service.settings import Settings
from service.tables import Dataset, Job
from tests.e2e.conftest import PENGUINS


class Bench:
    """A home with one dataset, where attempts are made without a worker."""

    def __init__(self, home: Path, file: Path = PENGUINS) -> None:
        self.home = home
        self.database = Database(Settings(home=home).database)
        self.database.migrate()
        self.jobs = Jobs(self.database, most_queued=1)
        self.datasets = Datasets(self.database, home)
        self.dataset = self.datasets.add_file(file, file.name).id

    def attempt(self, request: dict, **settings: object) -> Job:
        """The job, after the one attempt at it."""
        chosen = {"model": "m", "target": "species"} | request
        job = self.jobs.submit(TrainingJobRequest(dataset=self.dataset, **chosen))
        return self.run(job, JobRuns(self.database), **settings)

    def run(self, job: Job, runs: JobRuns, **settings: object) -> Job:
        """The job, after one attempt at it that reports there."""
        lease = runs.claim("worker-1", Devices("cpu"))
        assert lease is not None
        registry = Registry(self.database, self.home)
        chosen = Settings(home=self.home, **settings)
        Attempt(lease, chosen, runs, registry, self.datasets, threading.Event()).run()
        return self.jobs.get(job.id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*arguments: Path) -> Bench:
        made.append(Bench(tmp_path / f"home{len(made)}", *arguments))
        return made[-1]

    yield make
    for one in made:
        one.database.close()


class Cut(JobRuns):
    """Does something when the job has told of that epoch for the first time."""

    def __init__(self, database: Database, epoch: int, act: Callable[[], object]) -> None:
        super().__init__(database)
        self._epoch = epoch
        self._act = act

    def report(
        self, lease: Lease, events: Sequence[Report], progress: Mapping | None = None
    ) -> None:
        super().report(lease, events, progress)
        if any(event.data.get("epoch", 0) >= self._epoch for event in events):
            self._act()


def test_cancelled_or_failed_it_resumes_where_it_was_and_ends_in_the_same_weights(
    bench: Callable[..., Bench],
) -> None:
    one = bench()
    request = {
        "calibration": "split",
        "hyperparameters": {"hidden": [16], "epochs": 120, "early_stopping_patience": 120},
    }
    calm = one.attempt(request | {"model": "calm"}, checkpoint_seconds=0)
    assert calm.status == "succeeded", calm.error

    job = one.jobs.submit(
        TrainingJobRequest(model="cut", target="species", dataset=one.dataset, **request)
    )
    ends = []
    for epoch, act in ((10, lambda: one.jobs.cancel(job.id)), (40, lambda: 1 / 0)):
        ends.append(one.run(job, Cut(one.database, epoch, act), checkpoint_seconds=0))
        one.jobs.resume(job.id)
    assert [(end.status, end.result) for end in ends] == [("cancelled", None), ("failed", None)]
    assert one.run(job, JobRuns(one.database), checkpoint_seconds=0).status == "succeeded"

    events, _ = one.jobs.events(job.id, after=None, limit=1000, ascending=True)
    told = [event for event in events if event.type in ("epoch", "status")]
    starts = [
        following.data["epoch"]
        for event, following in pairwise(told)
        if event.data.get("status") == "running"
    ]
    assert starts[0] == 1
    assert starts[0] < starts[1] < starts[2] < 120, "each went on from a checkpoint"
    weights = [
        path.read_bytes()
        for model in ("calm", "cut")
        for path in (one.home / "models" / model).glob("1-*/weights.safetensors")
    ]
    assert len(weights) == 2
    assert weights[0] == weights[1]


DEEP = {"hidden": [24] * 16, "learning_rate": 10.0, "gradient_clip": None, "epochs": 2}


@pytest.mark.parametrize(
    ("hyperparameters", "settings", "code", "text"),
    [
        (DEEP, {}, "diverged", "try a lower learning_rate"),
        ({}, {"max_job_memory_bytes": 80_000_000}, "out_of_memory", "more than the 80 MB"),
        ({"epochs": 50_000}, {"max_job_seconds": 0.5}, "time_limit", "longer than the 0.5 s"),
    ],
)
def test_what_a_job_may_not_or_cannot(
    bench: Callable[..., Bench], hyperparameters: dict, settings: dict, code: str, text: str
) -> None:
    request = {"hyperparameters": hyperparameters, "calibration": "split"}
    job = bench().attempt(request, **settings)
    assert (job.status, job.error["code"]) == ("failed", code)
    assert text in job.error["message"]


def test_a_target_without_any_value(bench: Callable[..., Bench], tmp_path: Path) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("a,b,y\n" + "".join(f"{i % 7},{i},\n" for i in range(100)))
    job = bench(file).attempt({"target": "y"})
    assert (job.error["code"], job.error["param"]) == ("target_missing", "target")
    assert job.error["message"] == "every value of 'y' is missing"


def test_a_process_that_always_dies_is_not_started_for_ever(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_nothing(module: str, *, talks: bool) -> object:
        assert module == "service.trainer"
        return start_child("service.no_such_module", talks=talks)

    monkeypatch.setattr("service.trainer_process.start_child", start_nothing)
    one = bench()
    job = one.attempt({})
    assert (job.status, job.error["code"]) == ("failed", "trainer_died")
    assert "ended with code 1" in job.error["message"]
    events, _ = one.jobs.events(job.id, after=None, limit=100, ascending=True)
    again = [event for event in events if "is started again" in event.message]
    assert [event.level for event in again] == ["warning"] * MOST_DEATHS


def test_a_fault_of_ours_ends_the_job(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()

    def get(_: str) -> Dataset:
        raise ZeroDivisionError

    monkeypatch.setattr(one.datasets, "get", get)
    job = one.attempt({})
    assert (job.status, job.error["code"]) == ("failed", "internal")
    assert "ZeroDivision" not in job.error["message"]
    assert one.jobs.resume(job.id).status == "queued"


def test_a_step_waits_for_the_database(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()
    answer, asked = one.datasets.get, []

    def get(dataset: str) -> Dataset:
        asked.append(dataset)
        if len(asked) < 3:
            raise OperationalError("SELECT", {}, Exception("the database is locked"))
        return answer(dataset)

    monkeypatch.setattr(one.datasets, "get", get)
    monkeypatch.setattr("service.attempt.RETRY_SECONDS", 0.01)
    job = one.attempt({"device": "cuda:7"})
    assert len(asked) > 3
    assert job.error["code"] == "no_such_device", "it has got as far as the child"
    assert "cuda:7 is not here" in job.error["message"]
