"""`:predict` as LitServe serves it. `python -m benchmarks.peers.litserve_service WEIGHTS PORT`

As its documentation says for more than 100 requests a second: the fast queue.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve

from benchmarks.peers import network


class Regression(litserve.LitAPI):
    """The network behind its one route."""

    def setup(self, device: str) -> None:  # noqa: ARG002 (of the protocol)
        self.model = network.load(sys.argv[1])

    # Unannotated, as LitServe's own examples: it makes a FastAPI parameter of it.
    def decode_request(self, request):
        return request["instances"]

    def predict(self, x: Any) -> Any:
        return network.predict(self.model, x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Regression(), accelerator="cpu", workers_per_device=1, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
