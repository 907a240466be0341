"""The same figures on a GPU as on the CPU, by graphs as without, from several threads."""

import inspect
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from models import graphs, sampling
from models.draw import Draw
from models.estimators import estimate
from models.graphs import Gpu
from models.plan import predict
from models.sampling import make_plan, open_stream, sample
from models.table import Target
from tests.unit.recorders import CLOSE, KINDS, network

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@pytest.fixture(autouse=True)
def no_draw_goes_on_without_graphs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@on_a_gpu
@pytest.mark.parametrize("samples_per_design", [None, 20])
@pytest.mark.parametrize("kind", ["bernoulli", "dropconnect"])
def test_masks_are_the_same_to_the_bit(kind: str, samples_per_design: int | None) -> None:
    found = []
    for device in ("cpu", "cuda"):
        plan = make_plan(network(kind), device)
        masks = open_stream(plan, 8, 50, samples_per_design=samples_per_design).take(50)
        found.append([mask.cpu() for mask in masks if mask is not None])
    for here, there in zip(*found, strict=True):
        assert torch.equal(here.view(torch.int32), there.contiguous().view(torch.int32))


@on_a_gpu
@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_the_cpu(kind: str, head: str) -> None:
    net, x = network(kind, head), torch.randn(50, 6)
    here, there = make_plan(net), make_plan(net, "cuda")
    torch.testing.assert_close(predict(there, x).cpu(), predict(here, x), **CLOSE)
    for n_rows, n_samples in ((50, 30), (1, 100), (1, 100), (3, 17)):
        found = sample(there, x[:n_rows], seed=2, n_samples=n_samples).cpu()
        expected = sample(here, x[:n_rows], seed=2, n_samples=n_samples)
        torch.testing.assert_close(found, expected, **CLOSE)
    assert len(there.graphs) == 3


@on_a_gpu
@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate"])
def test_estimates_are_those_of_the_cpu(estimator: str) -> None:
    net, x, draw = network(), torch.randn(5, 6), Draw(60, 1, estimator, (0.05, 0.95))
    expected = estimate(make_plan(net), Target("y"), x, draw).summary
    there = make_plan(net, "cuda")
    for _ in range(2):
        found = estimate(there, Target("y"), x, draw).summary
        torch.testing.assert_close(vars(found), vars(expected), rtol=1e-3, atol=1e-4)
    assert len(there.graphs) == 1


@on_a_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_gives_what_the_draw_without_it_gives(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seeds and rows other than those that it was captured with."""
    plan, x = make_plan(network(kind), "cuda"), torch.randn(12, 6)
    asked = [(x[i : i + 3], seed) for i in (0, 3, 6, 9) for seed in (0, 1)]
    found = [sample(plan, rows, seed=seed, n_samples=40) for rows, seed in asked]
    assert len(plan.graphs) == 1
    monkeypatch.setattr(sampling, "GRAPH_FLOATS", 0)
    for (rows, seed), one in zip(asked, found, strict=True):
        expected = sample(plan, rows, seed=seed, n_samples=40)
        torch.testing.assert_close(one, expected, **CLOSE)


@on_a_gpu
@pytest.mark.parametrize("has_streams", [False, True])
def test_threads_get_what_they_get_alone(has_streams: bool) -> None:
    """While shapes are captured, on the default stream and on streams of their own."""
    plans = [make_plan(network(seed=seed), "cuda") for seed in (0, 1)]
    expected_by = [make_plan(network(seed=seed)) for seed in (0, 1)]
    x = torch.randn(16, 6)
    work = [(which, n, seed) for n in (1, 2, 5, 16) for seed in range(8) for which in (0, 1)] * 4

    def begin() -> None:
        if has_streams:
            torch.cuda.set_stream(torch.cuda.Stream())

    def draw(which: int, n_rows: int, seed: int) -> Tensor:
        return sample(plans[which], x[:n_rows], seed=seed, n_samples=30).cpu()

    with ThreadPoolExecutor(4, initializer=begin) as threads:
        found = list(threads.map(lambda one: draw(*one), work))
    for (which, n_rows, seed), one in zip(work, found, strict=True):
        expected = sample(expected_by[which], x[:n_rows], seed=seed, n_samples=30)
        torch.testing.assert_close(one, expected, **CLOSE)


@on_a_gpu
def test_graphs_go_with_their_network_and_the_next_one_is_captured_anew() -> None:
    x, held = torch.randn(3, 6), []
    for seed in range(6):
        plan = make_plan(network(seed=seed), "cuda")
        expected = sample(make_plan(network(seed=seed)), x, seed=0, n_samples=20)
        found = sample(plan, x, seed=0, n_samples=20).cpu()
        torch.testing.assert_close(found, expected, **CLOSE)
        there = weakref.ref(plan.graphs)
        del plan
        assert there() is None
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    assert held[-1] <= held[1]


@on_a_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second CUDA device here")
def test_a_second_gpu_has_graphs_of_its_own() -> None:
    net, x = network(), torch.randn(3, 6)
    expected = sample(make_plan(net), x, seed=0, n_samples=20)
    for device in ("cuda:1", "cuda:0"):
        plan = make_plan(net, device)
        for _ in range(2):
            found = sample(plan, x, seed=0, n_samples=20).cpu()
            torch.testing.assert_close(found, expected, **CLOSE)


class Pretended:
    """The part of `torch.cuda` that captures, and what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Any] = []
        self.current: Any = _Stream("default", self.told)
        self.fails = False
        init = inspect.signature(torch.cuda.graph)
        pretended = self

        class Graph:
            def replay(self) -> None:
                pretended.told.append("replay")

            def pool(self) -> int:
                return id(self)

        @contextmanager
        def stream(chosen: Any) -> Iterator[None]:
            before, self.current = self.current, chosen
            try:
                yield
            finally:
                self.current = before

        @contextmanager
        def graph(*args: Any, **kwargs: Any) -> Iterator[None]:
            asked = init.bind(*args, **kwargs).arguments
            assert isinstance(asked["cuda_graph"], Graph)
            assert asked["capture_error_mode"] == "thread_local"
            self.told.append(("capture", asked["stream"].name, asked["pool"]))
            self.current = asked["stream"]
            yield
            if self.fails:  # as torch's: the stream stays
                raise RuntimeError("operation failed due to a previous error during capture")

        monkeypatch.setattr(torch.cuda, "Stream", lambda _: _Stream("side", self.told))
        monkeypatch.setattr(torch.cuda, "Event", lambda: _Event(self.told))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: self.current)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "graph", graph)

    def work(self) -> None:
        self.told.append(("work", self.current.name))


class _Stream:
    def __init__(self, name: str, told: list[Any]) -> None:
        self.name = name
        self._told = told

    def wait_stream(self, other: "_Stream") -> None:
        self._told.append((self.name, "waits for", other.name))

    def wait_event(self, _: "_Event") -> None:
        self._told.append((self.name, "waits for its turn"))


class _Event:
    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def record(self, stream: _Stream) -> None:
        self._told.append((stream.name, "is done"))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    return Pretended(monkeypatch)


def test_a_capture_is_warmed_up_on_its_stream_and_within_its_turn(pretended: Pretended) -> None:
    gpu = Gpu(torch.device("cuda", 0))
    with gpu.turn():
        assert graphs._TURN.locked()
        gpu.capture(pretended.work)()
    assert not graphs._TURN.locked()
    assert pretended.told == [
        ("default", "waits for its turn"),
        ("side", "waits for", "default"),
        ("work", "side"),
        ("default", "waits for", "side"),
        ("capture", "side", None),
        ("work", "side"),
        "replay",
        ("default", "is done"),
    ]


def test_graphs_share_the_memory_of_one_that_lives(pretended: Pretended) -> None:
    gpu = Gpu(torch.device("cuda", 0))

    def captured() -> Callable[[], None]:
        return gpu.capture(pretended.work)

    def pools() -> list[int | None]:
        return [one[2] for one in pretended.told if one[0] == "capture"]

    first = captured()
    second = captured()
    assert pools() == [None, id(first.__self__)]
    del first, second
    captured()
    assert pools()[2] is None


def test_a_capture_that_fails_leaves_stream_and_turn_as_they_were(pretended: Pretended) -> None:
    gpu, pretended.fails = Gpu(torch.device("cuda", 0)), True
    with pytest.raises(RuntimeError, match="during capture"), gpu.turn():
        gpu.capture(pretended.work)
    assert pretended.current.name == "default"
    assert not graphs._TURN.locked()
    assert pretended.told[-1] == ("default", "is done")
    pretended.fails = False
    gpu.capture(pretended.work)
    assert pretended.told[-2] == ("capture", "side", None), "not the pool of one that failed"
