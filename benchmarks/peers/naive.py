"""The service that users would write: FastAPI, a pydantic body, a `def` route, T passes in
`train()`. `python -m benchmarks.peers.naive WEIGHTS PORT`"""

from __future__ import annotations

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers import network


class Body(BaseModel):
    """A request."""

    instances: list[list[float]]
    n_samples: int = 100


class Row(BaseModel):
    """What is said of a row."""

    mean: float
    std: float


class Answer(BaseModel):
    """A response."""

    predictions: list[Row]


def create_app(weights: str) -> FastAPI:
    """The application."""
    app = FastAPI()
    model = network.load(weights).train()

    @app.post("/predict")
    def predict(body: Body) -> Answer:
        x = torch.tensor(body.instances)
        with torch.no_grad():
            samples = torch.stack([model(x) for _ in range(body.n_samples)])
        mean, std = samples.mean(dim=0), samples.std(dim=0)
        return Answer(
            predictions=[
                Row(mean=m, std=s)
                for m, s in zip(mean[:, 0].tolist(), std[:, 0].tolist(), strict=True)
            ]
        )

    return app


if __name__ == "__main__":
    app = create_app(sys.argv[1])
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
