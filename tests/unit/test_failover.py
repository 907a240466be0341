"""Workers that vanish, come back, and share names; time is told to them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.database import Database, now
from service.failover import BEATS, MOST_LOSSES, Failover, NameTakenError
from service.job_order import Devices
from service.job_runs import JobRuns, Lease, LostJobError, Report
from service.jobs import Jobs
from service.tables import Job

LOST_SECONDS = 10.0
BEAT = LOST_SECONDS / BEATS


class Clock:
    """The seconds that everybody's watch shows."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def one(database: Database, clock: Clock) -> Failover:
    return enter(database, clock, "worker-1")


@pytest.fixture
def two(database: Database, clock: Clock) -> Failover:
    return enter(database, clock, "worker-2")


def enter(database: Database, clock: Clock, name: str) -> Failover:
    worker = Failover(database, name, LOST_SECONDS, clock)
    worker.enter()
    return worker


def claim(database: Database, worker: str = "worker-1") -> Lease:
    """A job, queued and taken up."""
    with database.write() as session:
        job = Job(
            id=f"job_{now().timestamp()}", status="queued", attempt=1, model="m", dataset="d",
            request={"device": "auto", "model": "m"}, cancel_requested=False, created_at=now(),
            losses=0, last_event=0,
        )  # fmt: skip
        session.add(job)
    lease = JobRuns(database).claim(worker, Devices())
    assert lease is not None
    return lease


def pass_time(clock: Clock, workers: dict[Failover, list[Lease]], beats: int = 2 * BEATS) -> None:
    for _ in range(beats):
        clock.time += BEAT
        for worker, leases in workers.items():
            worker.beat(leases)


def test_who_beats_keeps_its_jobs(
    database: Database, clock: Clock, one: Failover, two: Failover
) -> None:
    lease = claim(database)
    pass_time(clock, {one: [lease], two: []})
    assert not JobRuns(database).is_lost(lease)


def test_who_is_silent_for_too_long_loses_them_and_cannot_write(
    database: Database, clock: Clock, one: Failover, two: Failover
) -> None:
    lease = claim(database)
    runs = JobRuns(database)
    pass_time(clock, {two: []}, BEATS)
    assert not runs.is_lost(lease), "not before the time is up"
    pass_time(clock, {two: []}, 1)
    assert (runs.get(lease.job).status, runs.get(lease.job).attempt) == ("queued", 2)
    (event, *_), _ = Jobs(database, most_queued=1).events(
        lease.job, after=None, limit=1, ascending=False
    )
    assert (event.level, event.message) == ("warning", "queued again: worker-1 has vanished")
    with pytest.raises(LostJobError):
        runs.report(lease, [Report("log", "I am back")])
    again = runs.claim("worker-2", Devices())
    assert (again.job, again.attempt) == (lease.job, 2)
    one.beat([lease])
    pass_time(clock, {one: [], two: [again]})
    assert not runs.is_lost(again), "who comes back does not take its jobs back"


def test_time_in_which_the_watcher_was_away_does_not_count(
    database: Database, clock: Clock, one: Failover, two: Failover
) -> None:
    """It was stopped, or the database was: then nobody could beat."""
    lease = claim(database)
    pass_time(clock, {one: [lease], two: []}, 2)
    clock.time += 100 * LOST_SECONDS
    two.beat([])
    assert not JobRuns(database).is_lost(lease)


def test_who_starts_again_gives_back_at_once_what_it_left(
    database: Database, clock: Clock, one: Failover
) -> None:
    lease = claim(database)
    enter(database, clock, "worker-1")
    assert JobRuns(database).get(lease.job).status == "queued"
    clock.time += BEAT
    with pytest.raises(NameTakenError):
        one.beat([lease])


def test_who_has_left_leaves_nothing_behind(
    database: Database, clock: Clock, one: Failover, two: Failover
) -> None:
    lease = claim(database)
    one.leave()
    pass_time(clock, {two: []}, 1)
    assert JobRuns(database).get(lease.job).status == "queued", "no need to wait for silence"


def test_a_claim_that_its_worker_never_heard_of_is_given_back(
    database: Database, clock: Clock, one: Failover
) -> None:
    lease, known = claim(database), claim(database)
    pass_time(clock, {one: [known]}, 1)
    assert JobRuns(database).get(lease.job).status == "queued"
    assert not JobRuns(database).is_lost(known)


def test_what_was_to_be_cancelled_is_cancelled(
    database: Database, clock: Clock, one: Failover, two: Failover
) -> None:
    lease = claim(database)
    Jobs(database, most_queued=1).cancel(lease.job)
    pass_time(clock, {two: []})
    assert JobRuns(database).get(lease.job).status == "cancelled"


def test_a_job_that_every_worker_is_lost_with_fails(database: Database, clock: Clock) -> None:
    lease = claim(database)
    runs = JobRuns(database)
    for _ in range(MOST_LOSSES):
        enter(database, clock, "worker-1")
        assert runs.claim("worker-1", Devices()) is not None
    enter(database, clock, "worker-1")
    job = runs.get(lease.job)
    assert (job.status, job.error["code"]) == ("failed", "worker_lost")
