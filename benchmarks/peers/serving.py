"""The other servers: how each is installed, started and asked for the rows of `:predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.load import write_request
from benchmarks.peers.environments import Environments
from benchmarks.peers.servers import free_port, serving
from benchmarks.regression import in_json

Command = list[str | Path]


def _in_instances(table: np.ndarray) -> bytes:
    return in_json(table)


def _in_tensors(table: np.ndarray) -> bytes:
    tensor = {"name": "input", "datatype": "FP32", "shape": list(table.shape)}
    return json.dumps({"inputs": [tensor | {"data": table.ravel().tolist()}]}).encode()


@dataclass(frozen=True)
class Peer:
    """A server: its packages (none: it runs in this environment), its command from (python,
    weights, port, an empty folder), and the path and body it is asked with."""

    name: str
    requirements: Sequence[str]
    command: Callable[[Path, Path, int, Path], Command]
    path: str = "/predict"
    body: Callable[[np.ndarray], bytes] = _in_instances
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """With its version."""
        if not self.requirements:
            return self.name
        return f"{self.name} {self.requirements[0].partition('==')[2]}"

    @property
    def folder(self) -> str:
        """Of its environment."""
        return self.name.lower().replace(" ", "-")

    @contextmanager
    def serve(
        self, environments: Environments, weights: Path, table: np.ndarray
    ) -> Iterator[Served]:
        """Its port, and a request for each row of the table, once it answers; installed before,
        if it is not.

        Raises:
            NotInstallableError: it cannot be.
            NotServingError: it does not answer.
        """
        python = Path(sys.executable)
        if self.requirements:
            python = environments.python(self.folder, self.requirements)
        bodies = [self.body(table[i : i + 1]) for i in range(len(table))]
        port = free_port()
        with TemporaryDirectory() as folder:
            command = self.command(python, weights, port, Path(folder))
            settings = {"BENCHMARK_WEIGHTS": str(weights), **self.environment}
            with serving(command, port, self.path, bodies[0], settings):
                yield Served(port, [write_request(self.path, body) for body in bodies])


@dataclass(frozen=True)
class Served:
    """A server that answers."""

    port: int
    requests: Sequence[bytes]


def _module(name: str) -> Callable[[Path, Path, int, Path], Command]:
    module = f"benchmarks.peers.{name}"
    return lambda python, weights, port, _: [python, "-m", module, str(weights), str(port)]


def _bentoml(python: Path, _: Path, port: int, __: Path) -> Command:
    service = "benchmarks.peers.bentoml_service:Regression"
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return [python, "-m", "bentoml", "serve", service, *address]


def _mlserver(python: Path, weights: Path, port: int, folder: Path) -> Command:
    """Without the pool of processes, which costs a small model more than it brings, and without
    the log of requests that is its default."""
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    model = {
        "name": "regression",
        "implementation": "benchmarks.peers.mlserver_service.Regression",
        "parameters": {"uri": str(weights)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [python.with_name("mlserver"), "start", folder]


NAIVE = Peer("the service users would write", (), _module("naive"))
BARE = Peer("uvicorn alone, a constant answer", (), _module("bare"))
PEERS = (
    Peer("LitServe", ["litserve==0.2.19"], _module("litserve_service")),
    Peer(
        "MLServer",
        ["mlserver==1.7.1", "uvloop<0.22"],
        _mlserver,
        "/v2/models/regression/infer",
        _in_tensors,
    ),
    Peer(
        "BentoML",
        ["bentoml==1.4.40"],
        _bentoml,
        environment={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "Ray Serve",
        ["ray[serve]==2.60.0"],
        _module("ray_service"),
        "/",
        environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
)
