"""`:predict` as BentoML serves it; `bentoml serve benchmarks.peers.bentoml_service:Regression`
with the file of weights in BENCHMARK_WEIGHTS."""

from __future__ import annotations

import os
from typing import Any

import bentoml

from benchmarks.peers import network


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Regression:
    """The network behind one route. `async`, since so small a product is done sooner than a
    thread is woken."""

    def __init__(self) -> None:
        self.model = network.load(os.environ["BENCHMARK_WEIGHTS"])

    @bentoml.api(route="/predict")
    async def predict(self, instances: list[list[float]]) -> dict[str, Any]:
        return {"predictions": network.predict(self.model, instances)}
