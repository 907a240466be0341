"""Jobs to be asked for, and the worker's part."""

import httpx

from service.job_order import Devices
from service.job_runs import JobRuns, Lease

CSV = b"age,y\n" + b"".join(b"%d,%d\n" % (i % 17, i) for i in range(50))


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
