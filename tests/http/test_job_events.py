"""What is told of a job, page by page or as it happens."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from service.feed import Feed
from service.job_runs import JobRuns, Report
from service.schemas import JobEventPage
from tests.http.jobs import submit, take

pytestmark = pytest.mark.anyio


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
