"""What an answer costs over HTTP, on a real service: against `:predict` on the same service,
against decoding and matrix products alone, and beside heavy work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import torch

from benchmarks import regression
from benchmarks.estimators import reference
from benchmarks.interleaved import interleave, ratio
from benchmarks.load import Load, offer, start, write_request
from benchmarks.local_service import LocalService
from benchmarks.verdict import Row
from models import Artifact
from models.draw import Draw
from models.estimators import estimate
from models.sampling import make_plan
from models.uncertainty import moments

ROUNDS = 5
SECONDS = 1.0
STARTS = 5
# The kernel shares their connections out at random: enough of them that each process has some.
CLIENTS = 8
LIVE_SECONDS = 8.0
MODEL = f"/v1/models/{regression.NAME}"
INFER = f"/v2/models/{regression.NAME}/infer"
# Of the rows asked for one at a time.
DIFFERENT_ROWS = 64
MANY_ROWS = 1_000
# As much as is still computed on the event loop: what goes to threads has two in one process.
BOUND_ROWS, BOUND_SAMPLES = 40, 8
N_ERRORS, N_SEEDS, N_REFERENCE = 20, 40, 200_000


def rows(artifact: Artifact, home: Path) -> Iterator[Row]:
    """Every row of this page; the service's home holds the artifact."""
    with LocalService(home, worker=False) as service:
        yield from _against_predict(service)
        yield from _many_rows(artifact, service)
        yield _live(service.port, "of 1,000 samples of 100 rows, 4 clients", 4, 100, 1_000)
        yield _live(service.port, "of 100 samples of one row, 16 clients", 16, 1, 100)
    yield _two_processes(home)
    yield _start(home)
    yield _equal_accuracy(artifact)


def ask(verb: str, n_rows: int = 1, **more: object) -> list[bytes]:
    """Requests of that verb, for so many rows each, no two of the same."""
    table = regression.make_rows(n_rows * DIFFERENT_ROWS)
    return [
        write_request(f"{MODEL}:{verb}", regression.in_json(part, **more))
        for part in np.split(table, DIFFERENT_ROWS)
    ]


def _against_predict(service: LocalService) -> Iterator[Row]:
    requests = {
        "predict": ask("predict"),
        "auto": ask("uncertainty", n_samples=100),
        "mc": ask("uncertainty", n_samples=100, estimator="mc"),
    }
    found = interleave({name: _asking(service, texts) for name, texts in requests.items()}, ROUNDS)
    p50 = {name: [load.p50 for load in loads] for name, loads in found.items()}
    work = {name: [load.processor_per_answer for load in loads] for name, loads in found.items()}
    for name, target in (("auto", 1.5), ("mc", 2.5)):
        yield Row(
            f"MC T=100, one row, over HTTP: p50 of `{name}` against `:predict`",
            ratio(p50[name], p50["predict"]),
            target,
            at_most=True,
            note=f"{_ms(p50[name])} against {_ms(p50['predict'])}; processor time "
            f"{ratio(work[name], work['predict']):.2f}×",
        )


def _many_rows(artifact: Artifact, service: LocalService) -> Iterator[Row]:
    table = regression.make_rows(MANY_ROWS)
    body = regression.in_json(table)
    json_body = _asking(service, [write_request(f"{MODEL}:predict", body)])
    tensors = _asking(service, [_in_tensors(table)])
    found = interleave(
        {
            "json": lambda: json_body().p50,
            "binary": lambda: tensors().p50,
            "alone": lambda: _alone(artifact, body),
        },
        ROUNDS,
    )
    yield Row(
        f"`:predict`, {MANY_ROWS:,} rows of 13 in JSON: p50 against decoding and products alone",
        ratio(found["json"], found["alone"]),
        2.0,
        at_most=True,
        note=f"{_ms(found['json'])} over HTTP against {_ms(found['alone'])}",
    )
    yield Row(
        f"`:predict`, {MANY_ROWS:,} rows of 13: binary tensors against JSON",
        ratio(found["json"], found["binary"]),
        5.0,
        at_most=False,
        note=f"p50 {_ms(found['binary'])} against {_ms(found['json'])}",
    )


def _asking(service: LocalService, requests: list[bytes]) -> Callable[[], Load]:
    return lambda: offer([service.port], requests, clients=1, seconds=SECONDS, server=service.pid)


def _in_tensors(table: np.ndarray) -> bytes:
    tensor = {
        "name": "input",
        "shape": list(table.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": table.nbytes},
    }
    head = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    text = json.dumps(head).encode()
    return write_request(
        INFER, text + table.tobytes(), [f"Inference-Header-Content-Length: {len(text)}"]
    )


def _alone(artifact: Artifact, body: bytes) -> float:
    """Seconds of JSON to an array and of the network's products, here, without a service."""
    layers = [(linear.weight.T, linear.bias) for linear in artifact.network.linears]

    def products() -> None:
        hidden = torch.from_numpy(np.asarray(orjson.loads(body)["instances"], np.float32))
        for weight, bias in layers[:-1]:
            hidden = torch.addmm(bias, hidden, weight).relu_()
        torch.addmm(layers[-1][1], hidden, layers[-1][0])

    with torch.inference_mode():
        return median(_seconds(products) for _ in range(51))


def _live(port: int, what: str, clients: int, n_rows: int, n_samples: int) -> Row:
    requests = ask("uncertainty", n_rows, n_samples=n_samples, estimator="mc")
    heavy = start([port], requests, clients=clients, seconds=LIVE_SECONDS + 2.0, warm_up=0.0)
    looks = [write_request("/health/live", b"", method="GET")]
    live = offer([port], looks, clients=1, seconds=LIVE_SECONDS, warm_up=1.0, pause=0.005)
    done = heavy.result()
    return Row(
        f"p99 of `/health/live` beside `:uncertainty` (`mc`) {what}",
        1e3 * live.quantile(0.99),
        20.0,
        at_most=True,
        unit="ms",
        note=f"median {_ms([live.p50])}, {len(live.latencies)} looks; {done.per_second:.0f} "
        "answers a second beside",
    )


def _two_processes(home: Path) -> Row:
    requests = ask("uncertainty", BOUND_ROWS, n_samples=BOUND_SAMPLES)
    with (
        LocalService(home, worker=False, threads="1") as one,
        LocalService(home, worker=False, threads="1", workers="2") as two,
    ):
        found = interleave(
            {
                name: lambda of=of: offer(
                    [of.port], requests, clients=CLIENTS, seconds=2.0, server=of.pid
                )
                for name, of in (("one", one), ("two", two))
            },
            ROUNDS,
        )
    per_second = {name: [load.per_second for load in loads] for name, loads in found.items()}
    serving = median(load.processor_per_answer for load in found["one"])
    asking = median(load.own_per_answer for load in found["one"])
    cores = os.cpu_count() or 1
    return Row(
        f"`--workers 2` against one API process: requests/s of `:uncertainty` (`auto`), "
        f"{BOUND_ROWS} rows, T={BOUND_SAMPLES}",
        ratio(per_second["two"], per_second["one"]),
        1.8,
        at_most=False,
        note=f"{median(per_second['two']):.0f} against {median(per_second['one']):.0f} a second, "
        f"one thread each; an answer takes the service {1e3 * serving:.2f} ms, the load generator, "
        f"on the same {cores} cores, {1e3 * asking:.2f}: at most "
        f"{cores * serving / (serving + asking):.2f} ×",
    )


def _start(home: Path) -> Row:
    def service() -> float:
        with LocalService(home) as started:
            return started.seconds_to_start

    imports = [sys.executable, "-c", "import torch, fastapi"]
    found = interleave(
        {
            "service": service,
            "imports": lambda: _seconds(lambda: subprocess.run(imports, check=True)),
        },
        STARTS,
    )
    return Row(
        "start: `dropcast serve` until ready, against `import torch, fastapi`",
        ratio(found["service"], found["imports"]),
        1.5,
        at_most=True,
        note=f"{median(found['service']):.2f} s against {median(found['imports']):.2f} s",
    )


def _equal_accuracy(artifact: Artifact) -> Row:
    """How many textbook samples have the mean as right as one of those that `auto` draws.

    The squared error of a mean of textbook samples is known: the variance over their number.
    """
    plan, target = make_plan(artifact.network), artifact.schema.target
    x = artifact.encode(regression.make_rows(N_ERRORS, seed=2).tolist())
    mean, variance = reference(plan, target, x, N_REFERENCE)
    errors, used = [], 0
    for seed in range(N_SEEDS):
        drawn = estimate(plan, target, x, Draw(100, seed, "auto"))
        centre, _ = moments(drawn.summary)
        errors.append(((centre - mean) ** 2 / variance).mean())
        used = drawn.samples_used
    # Less than a part of the reference's own error is not seen.
    error = max(np.mean(errors) - 1.0 / N_REFERENCE, 0.2 / N_REFERENCE)
    return Row(
        "at equal accuracy of the mean: textbook samples for one sample of `auto`",
        float(1.0 / error / used),
        20.0,
        at_most=False,
        note=f"`auto` drew {used} samples, whose mean is as right as that of {1.0 / error:.0f} "
        f"passes; {N_ERRORS} rows, {N_SEEDS} seeds",
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ms(seconds: Sequence[float]) -> str:
    return f"{1e3 * median(seconds):.3g} ms"
