"""Jobs as clients see them; the worker's part is played by calls to `Jobs`, the real one by
tests/e2e."""

import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from service.feed import Feed
from service.job_order import Devices
from service.job_runs import JobRuns, Lease, LostJobError, Report
from service.promotion import Verdict
from service.schemas import JobEventPage, Page, TrainingJob

pytestmark = pytest.mark.anyio

CSV = b"age,y\n" + b"".join(b"%d,%d\n" % (i % 17, i) for i in range(50))


@pytest.fixture
async def dataset(client: httpx.AsyncClient) -> str:
    response = await client.post("/v1/datasets", content=CSV, headers={"content-type": "text/csv"})
    return response.json()["id"]


def request(dataset: str, **fields: object) -> dict:
    return {"model": "m", "dataset": dataset, "target": "y"} | fields


async def submit(client: httpx.AsyncClient, dataset: str, **fields: object) -> dict:
    response = await client.post("/v1/training_jobs", json=request(dataset, **fields))
    assert response.status_code == 202, response.text
    return response.json()


def take(runs: JobRuns, job: str, worker: str = "worker-1") -> Lease:
    """The worker's part: it takes up the job, the only one that waits."""
    lease = runs.claim(worker, Devices())
    assert lease is not None
    assert lease.job == job
    return lease


async def test_a_job_is_accepted_with_all_defaults(client: httpx.AsyncClient, dataset: str) -> None:
    response = await client.post("/v1/training_jobs", json=request(dataset))
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"/v1/training_jobs/{body['id']}"
    TrainingJob.model_validate(body)
    assert body["object"] == "training_job"
    assert body["status"] == "queued"
    assert (body["started_at"], body["progress"], body["error"], body["result"]) == (None,) * 4
    assert body["created_at"].endswith("Z")
    assert (body["model"], body["dataset"], body["target"]) == ("m", dataset, "y")
    assert (body["task"], body["promote"], body["device"], body["seed"]) == (
        "auto", "if_better", "auto", 0,
    )  # fmt: skip
    assert body["hyperparameters"]["hidden"] == [256, 256]
    assert body["hyperparameters"]["dropout"] == {"kind": "bernoulli", "p": 0.1, "input_p": 0.0}
    assert (await client.get(f"/v1/training_jobs/{body['id']}")).json() == body


async def test_what_was_chosen_is_kept(client: httpx.AsyncClient, dataset: str) -> None:
    chosen = {
        "hyperparameters": {
            "hidden": [8, 4],
            "activation": "tanh",
            "dropout": {"kind": "gaussian", "p": [0.2, 0.3], "input_p": 0.05},
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 0.01,
            "weight_decay": 0,
            "max_norm": 3,
            "early_stopping_patience": 2,
        },
        "metadata": {"team": "blue"},
        "promote": "never",
        "seed": 5,
    }
    body = await submit(client, dataset, **chosen)
    for key, value in chosen["hyperparameters"].items():
        assert body["hyperparameters"][key] == value
    assert (body["metadata"], body["promote"], body["seed"]) == ({"team": "blue"}, "never", 5)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "concrete", "dropconnect"])
async def test_p_may_be_left_to_the_job(client: httpx.AsyncClient, dataset: str, kind: str) -> None:
    dropout = {"kind": kind, "p": "auto"}
    body = await submit(client, dataset, hyperparameters={"dropout": dropout})
    TrainingJob.model_validate(body)
    assert body["hyperparameters"]["dropout"] == dropout | {"input_p": 0.0}


async def test_an_idempotency_key_gives_the_same_job(
    client: httpx.AsyncClient, dataset: str
) -> None:
    async def post(body: dict, key: str) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return await client.post("/v1/training_jobs", json=body, headers=headers)

    first = await post(request(dataset), "k1")
    same = await post(request(dataset), "k1")
    other = await post(request(dataset), "k2")
    clash = await post(request(dataset, seed=9), "k1")
    assert first.json() == same.json()
    assert other.json()["id"] != first.json()["id"]
    assert clash.status_code == 409
    assert first.json()["id"] in clash.json()["detail"]
    assert len((await client.get("/v1/training_jobs")).json()["data"]) == 2


async def test_the_list_is_newest_first_filtered_and_paged(
    client: httpx.AsyncClient, dataset: str
) -> None:
    ids = [(await submit(client, dataset, seed=i))["id"] for i in range(4)]
    await client.post(f"/v1/training_jobs/{ids[1]}:cancel")
    body = (await client.get("/v1/training_jobs")).json()
    Page[TrainingJob].model_validate(body)
    assert [job["id"] for job in body["data"]] == ids[::-1]
    queued = (await client.get("/v1/training_jobs?status=queued&limit=2")).json()
    assert [job["id"] for job in queued["data"]] == [ids[3], ids[2]]
    assert queued["has_more"] is True
    rest = (await client.get(f"/v1/training_jobs?status=queued&after={ids[2]}")).json()
    assert [job["id"] for job in rest["data"]] == [ids[0]]


async def test_a_queued_job_is_cancelled_at_once_and_resumed(
    client: httpx.AsyncClient, dataset: str
) -> None:
    path = f"/v1/training_jobs/{(await submit(client, dataset))['id']}"
    cancelled = await client.post(f"{path}:cancel")
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    assert cancelled.json()["finished_at"] is not None
    assert (await client.post(f"{path}:cancel")).json()["status"] == "cancelled"
    resumed = (await client.post(f"{path}:resume")).json()
    assert (resumed["status"], resumed["attempt"]) == ("queued", 2)
    assert (resumed["finished_at"], resumed["error"]) == (None, None)
    assert (await client.post(f"{path}:resume")).status_code == 409


async def test_a_running_job_is_told_to_end(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    job = (await submit(client, dataset))["id"]
    runs = JobRuns((await serve()).app.state.database)
    lease = take(runs, job)
    assert not runs.is_lost(lease)
    response = await client.post(f"/v1/training_jobs/{job}:cancel")
    assert (response.status_code, response.json()["status"]) == (200, "running")
    assert runs.is_lost(lease)
    with pytest.raises(LostJobError):
        runs.report(lease, [Report("log", "still here")])
    runs.end_cancelled(lease)
    assert (await client.get(f"/v1/training_jobs/{job}")).json()["status"] == "cancelled"


async def test_an_older_attempt_may_not_write(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    """The fence: after a resume the run that was cut off has lost the job."""
    job = (await submit(client, dataset))["id"]
    state = (await serve()).app.state
    runs = JobRuns(state.database)
    old = take(runs, job)
    runs.fail(old, {"code": "x", "message": "broke", "param": None})
    await client.post(f"/v1/training_jobs/{job}:resume")
    new = take(runs, job, "worker-2")
    assert (old.attempt, new.attempt) == (1, 2)
    with pytest.raises(LostJobError):
        runs.report(old, [Report("log", "I am back")])
    with pytest.raises(LostJobError):
        runs.reserve_version(state.registry, old)
    runs.fail(old, {"code": "x", "message": "again", "param": None})
    runs.give_back(old, "I was stopped")
    assert (await client.get(f"/v1/training_jobs/{job}")).json()["status"] == "running"
    runs.give_back(new, "worker-2 was stopped")
    assert (await client.get(f"/v1/training_jobs/{job}")).json()["status"] == "queued"


async def test_a_failed_job_says_why(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    job = (await submit(client, dataset))["id"]
    runs = JobRuns((await serve()).app.state.database)
    error = {"code": "too_few_rows", "message": "upload more", "param": "dataset"}
    runs.fail(take(runs, job), error)
    body = (await client.get(f"/v1/training_jobs/{job}")).json()
    assert (body["status"], body["error"]) == ("failed", error)
    for verb, status in (("cancel", 409), ("resume", 200)):
        response = await client.post(f"/v1/training_jobs/{job}:{verb}")
        assert response.status_code == status


async def test_a_page_of_events(serve: Callable, client: httpx.AsyncClient, dataset: str) -> None:
    job = (await submit(client, dataset))["id"]
    runs = JobRuns((await serve()).app.state.database)
    lease = take(runs, job)
    progress = {"epoch": 2, "epochs": 10, "fraction": 0.2, "eta_seconds": 1.5}
    reports = [Report("epoch", f"epoch {i}", data={"epoch": i, "loss": 1 / i}) for i in (1, 2)]
    runs.report(lease, reports, progress)
    path = f"/v1/training_jobs/{job}/events"
    body = (await client.get(path)).json()
    JobEventPage.model_validate(body)
    assert [(event["id"], event["type"]) for event in body["data"]] == [
        (4, "epoch"), (3, "epoch"), (2, "status"), (1, "status"),
    ]  # fmt: skip
    assert body["data"][0]["data"] == {"epoch": 2, "loss": 0.5}
    first = (await client.get(f"{path}?limit=3")).json()
    assert ([e["id"] for e in first["data"]], first["has_more"]) == ([4, 3, 2], True)
    second = (await client.get(f"{path}?limit=3&after=2")).json()
    assert ([e["id"] for e in second["data"]], second["has_more"]) == ([1], False)
    ascending = (await client.get(f"{path}?order=asc&after=2")).json()
    assert [e["id"] for e in ascending["data"]] == [3, 4]
    assert (await client.get(f"/v1/training_jobs/{job}")).json()["progress"] == progress


def events_of(text: str) -> list[tuple[int, str, dict]]:
    """Server-sent events, parsed by the letter of the standard."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line[:1] not in ("", ":")
        )
        if fields:
            events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


async def test_a_live_stream_brings_every_event_once_and_ends_with_the_job(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    job = (await submit(client, dataset))["id"]
    runs = JobRuns((await serve()).app.state.database)

    async def stream(after: int | None) -> list[int]:
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        response = await client.get(f"/v1/training_jobs/{job}/events", headers=headers)
        assert response.headers["content-type"].startswith("text/event-stream")
        found = events_of(response.text)
        assert all(data["id"] == number for number, _, data in found)
        return [number for number, _, _ in found]

    async def work() -> None:
        lease = await asyncio.to_thread(take, runs, job)
        for i in range(40):
            await asyncio.to_thread(runs.report, lease, [Report("epoch", f"{i}", data={"e": i})])
        error = {"code": "x", "message": "broke", "param": None}
        await asyncio.to_thread(runs.fail, lease, error)

    whole, part, _ = await asyncio.gather(stream(None), stream(20), work())
    assert whole == list(range(1, 44))
    assert part == list(range(21, 44))
    assert await stream(None) == whole, "a finished job's stream is its history"
    assert await stream(43) == []


async def test_too_many_waiting_jobs_get_503(serve: Callable, dataset: str) -> None:
    app = await serve(max_queued_jobs=2)
    for i in range(2):
        await submit(app.client, dataset, seed=i)
    response = await app.client.post("/v1/training_jobs", json=request(dataset, seed=3))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


async def test_a_comparison_holds_only_while_production_stands(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    """Two jobs race, or somebody rolls back: what was compared with is no longer there."""
    state = (await serve()).app.state
    runs, registry = JobRuns(state.database), state.registry
    (card,) = (await client.get("/v1/models/concrete")).json()["versions"]
    _, folder = registry.find_artifact("concrete", "production")
    results = []
    for number, rival in ((2, None), (3, 1), (4, 1)):
        sha256 = card["artifact_sha256"]
        shutil.copytree(folder, registry.artifact_folder("concrete", number, sha256))
        job = (await submit(client, dataset, model="concrete"))["id"]
        lease = take(runs, job)
        runs.reserve_version(registry, lease)
        verdict = Verdict(promote=True, reason="better", is_comparison=True, rival=rival)
        results.append(runs.publish(registry, lease, card, verdict))
    assert [(r["version"], r["promoted"]) for r in results] == [(2, False), (3, True), (4, False)]
    assert results[2]["promotion"] == "production moved to version 3 while this one was compared"
    for result in results:
        told = (await client.get(f"/v1/models/concrete/versions/{result['version']}")).json()
        assert told["promotion"] == result["promotion"]
    assert registry.find_artifact("concrete", "production")[0] == 3


async def test_an_idle_stream_asks_the_database_nothing(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    """Thirty listeners, heartbeats and all: one reader's queries, as many as for a single one."""
    app = (await serve()).app
    job = app.state.jobs.get((await submit(client, dataset))["id"])
    counted: Counter[str] = Counter()

    class Counting:
        """The jobs, and how often they are asked."""

        def __getattr__(self, name: str) -> Callable:
            counted[name] += 1
            return getattr(app.state.jobs, name)

    async def listen(feed: Feed, n: int, beats: int) -> list[list[int]]:
        async def one() -> list[int]:
            told, silent = [], 0
            async for event in feed.follow(job, 0, 0.1):
                if event is not None:
                    told.append(event.id)
                    continue
                silent += 1
                if silent == beats:
                    return told
            return told

        return await asyncio.gather(*(one() for _ in range(n)))

    assert await listen(Feed(Counting()), 30, 12) == [[1]] * 30
    assert counted["events"] == 30, "one look each, at the beginning"
    assert counted["last_events"] < 12, "one for all every quarter of a second"
    assert set(counted) == {"events", "last_events"}


async def test_a_stream_outlives_the_database(
    serve: Callable, client: httpx.AsyncClient, dataset: str
) -> None:
    state = (await serve()).app.state
    runs = JobRuns(state.database)
    job = state.jobs.get((await submit(client, dataset))["id"])
    lease = take(runs, job.id)
    is_away = True

    class Away:
        """The jobs, while the database does not answer."""

        def __getattr__(self, name: str) -> Callable:
            if is_away:
                raise OperationalError("SELECT", {}, Exception("is away"))
            return getattr(state.jobs, name)

    seen = []
    async for event in Feed(Away()).follow(job, 0, 0.1):
        seen.append(event and event.id)
        if event is None and is_away:
            is_away = False
            runs.fail(lease, {"code": "x", "message": "broke", "param": None})
    assert [number for number in seen if number] == [1, 2, 3]


async def test_while_the_database_is_locked_requests_are_told_to_come_again(
    serve: Callable, dataset: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.database.BUSY_SECONDS", 0.1)
    client = (await serve()).client
    with closing(sqlite3.connect(home / "dropcast.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        response = await client.post("/v1/training_jobs", json=request(dataset))
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["detail"] == "the database does not answer"
        assert (await client.get("/v1/training_jobs")).status_code == 200, "readers need not wait"
        other.execute("ROLLBACK")
    await submit(client, dataset)


async def test_a_resumed_job_needs_room_in_the_queue(serve: Callable, dataset: str) -> None:
    client = (await serve(max_queued_jobs=1)).client
    path = f"/v1/training_jobs/{(await submit(client, dataset))['id']}"
    await client.post(f"{path}:cancel")
    await submit(client, dataset)
    full = await client.post(f"{path}:resume")
    assert (full.status_code, int(full.headers["retry-after"]) > 0) == (503, True)
