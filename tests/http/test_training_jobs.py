"""Jobs as clients see them; the worker's part is played by calls to `Jobs`, the real one by
tests/e2e."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from service.job_runs import JobRuns, LostJobError, Report
from service.promotion import Verdict
from service.schemas import Page, TrainingJob
from tests.http.jobs import request, submit, take

pytestmark = pytest.mark.anyio


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
