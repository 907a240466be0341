"""`:predict` as Ray Serve serves it. `python -m benchmarks.peers.ray_service WEIGHTS PORT`

As its documentation says for throughput: RAY_SERVE_THROUGHPUT_OPTIMIZED=1 in the environment, an
`async` method, and more requests under way than the five it allows.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers import network


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class Regression:
    """The network behind one route."""

    def __init__(self, weights: str) -> None:
        self.model = network.load(weights)

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        return {"predictions": network.predict(self.model, body["instances"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Regression.bind(sys.argv[1]), route_prefix="/")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    serve.shutdown()
    ray.shutdown()
