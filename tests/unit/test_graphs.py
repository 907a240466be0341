"""What a GPU does, on the CPU: packed masks, shapes rounded up, captured draws and the way out.

The function that captures is replaced by one that calls what it captured again.
"""

import gc
import logging
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

from models import sampling
from models.cancellation import ComputationCancelledError, cancellable
from models.draw import Draw
from models.estimators import estimate
from models.graphs import round_up
from models.mask_cache import MaskCache
from models.plan import with_own_masks
from models.sampling import make_plan, sample
from models.table import Target
from models.trace import trace_dropout, with_probability
from tests.unit.recorders import (
    CLOSE,
    KINDS,
    Failing,
    Fake,
    Remembering,
    Wrong,
    network,
    on_the_way_of_a_gpu,
    plain,
)


@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_the_cpu_whatever_the_shape(kind: str, head: str) -> None:
    net, fake = network(kind, head), Fake()
    plan, cpu = on_the_way_of_a_gpu(net, fake), plain(net)
    x = torch.randn(40, 6)
    for n_rows, n_samples in ((40, 33), (1, 2), (1, 100), (3, 100), (17, 16), (1, 7)):
        found = sample(plan, x[:n_rows], seed=2, n_samples=n_samples)
        expected = sample(cpu, x[:n_rows], seed=2, n_samples=n_samples)
        torch.testing.assert_close(found, expected, **CLOSE)
    assert fake.captures == 5  # (1, 2) and (1, 7) are of one shape


@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate", "auto"])
@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_those_of_the_cpu(kind: str, estimator: str, head: str) -> None:
    net, fake = network(kind, head), Fake()
    target = Target("y") if head == "regression" else Target("y", "classification", ("a", "b", "c"))
    x, draw = torch.randn(5, 6), Draw(60, 1, estimator)
    plan = on_the_way_of_a_gpu(net, fake)
    for _ in range(2):
        found = estimate(plan, target, x, draw).summary
        expected = estimate(plain(net), target, x, draw).summary
        torch.testing.assert_close(vars(found), vars(expected), rtol=1e-3, atol=1e-5)
    assert (fake.captures, fake.replays) == (1, 3)


def test_the_trace_shows_the_same_masks() -> None:
    for kind in KINDS:
        net, x = network(kind), torch.randn(1, 6)
        found = trace_dropout(on_the_way_of_a_gpu(net), x, seed=3, n_samples=9, sample=4)
        expected = trace_dropout(plain(net), x, seed=3, n_samples=9, sample=4)
        assert found.fraction_dropped == expected.fraction_dropped
        for a, b in zip(found.layers, expected.layers, strict=True):
            assert (a.mask == b.mask).all()


def test_what_is_left_from_before_is_in_no_answer() -> None:
    net, fake = network(), Fake()
    plan = on_the_way_of_a_gpu(net, fake)
    alone = sample(plain(net), torch.ones(3, 6), seed=0, n_samples=17)
    sample(plan, torch.full((4, 6), float("inf")), seed=9, n_samples=32)
    torch.testing.assert_close(sample(plan, torch.ones(3, 6), seed=0, n_samples=17), alone, **CLOSE)
    assert fake.captures == 1


def test_large_draws_have_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    net, fake, x = network(), Fake(), torch.randn(5, 6)
    floats = 5 * 20 * 16
    for n_samples, most, captures in ((17, floats, 0), (2, floats - 1, 0), (2, floats, 1)):
        monkeypatch.setattr(sampling, "GRAPH_FLOATS", most)
        found = sample(on_the_way_of_a_gpu(net, fake), x, seed=1, n_samples=n_samples)
        expected = sample(plain(net), x, seed=1, n_samples=n_samples)
        torch.testing.assert_close(found, expected, **CLOSE)
        assert fake.captures == captures


def test_shapes_that_were_not_asked_for_lately_go() -> None:
    fake, x = Fake(), torch.randn(16, 6)
    plan = on_the_way_of_a_gpu(network(), fake, most=3)
    for n_rows, captures in ((1, 1), (2, 2), (4, 3), (1, 3), (8, 4), (1, 4), (4, 4), (2, 5)):
        sample(plan, x[:n_rows], seed=0, n_samples=10)
        assert fake.captures == captures
        assert len(plan.graphs) <= 3


def test_other_probabilities_and_outputs_have_other_graphs() -> None:
    """A scale, and whether the last noise is integrated out, are baked into a graph."""
    net, fake, x = network(), Fake(), torch.randn(3, 6)
    plan = on_the_way_of_a_gpu(net, fake)
    for p in (0.3, 0.6):
        found = sample(with_probability(plan, p), x, seed=0, n_samples=20)
        expected = sample(with_probability(plain(net), p), x, seed=0, n_samples=20)
        torch.testing.assert_close(found, expected, **CLOSE)
    estimate(plan, Target("y"), x, Draw(20, 0, "mc"))
    estimate(plan, Target("y"), x, Draw(20, 0, "stratified"))
    assert fake.captures == 4
    sample(with_own_masks(plan), x, seed=7, n_samples=20)
    assert fake.captures == 4


@pytest.mark.parametrize(
    "fake", [Failing(), Wrong("idle"), Wrong("off")], ids=["fails", "idle", "off"]
)
def test_without_graphs_the_draw_goes_on(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    net, x = network(), torch.randn(5, 6)
    plan = on_the_way_of_a_gpu(net, fake)
    with caplog.at_level(logging.WARNING):
        for n_samples in (10, 10, 50):
            found = sample(plan, x, seed=1, n_samples=n_samples)
            expected = sample(plain(net), x, seed=1, n_samples=n_samples)
            torch.testing.assert_close(found, expected, **CLOSE)
    assert fake.captures == 1
    assert [record.getMessage() for record in caplog.records] == ["draws go on without CUDA graphs"]
    assert len(plan.graphs) == 0


def test_a_failure_is_that_of_one_network(caplog: pytest.LogCaptureFixture) -> None:
    working, x = Fake(), torch.randn(5, 6)
    sample(on_the_way_of_a_gpu(network(), Failing()), x, seed=1, n_samples=10)
    sample(on_the_way_of_a_gpu(network(), working), x, seed=1, n_samples=10)
    assert working.captures == 1
    assert len(caplog.records) == 1


def test_what_is_wrong_with_the_draw_itself_is_said_as_without_graphs() -> None:
    fake = Fake()
    plan = on_the_way_of_a_gpu(network(), fake)
    with pytest.raises(RuntimeError):
        sample(plan, torch.randn(5, 7), seed=1, n_samples=10)
    sample(plan, torch.randn(5, 6), seed=1, n_samples=10)
    assert fake.captures == 1


@pytest.mark.parametrize("fake", [Fake(), Failing()], ids=["graphs", "failing"])
def test_threads_get_what_they_get_alone(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    net = network()
    plan, cpu = on_the_way_of_a_gpu(net, fake, most=2), plain(net)
    x = torch.randn(8, 6)
    work = [(rows, seed, n) for rows in (1, 3, 8) for seed in range(4) for n in (5, 20)] * 3

    def draw(n_rows: int, seed: int, n_samples: int) -> Tensor:
        return sample(plan, x[:n_rows], seed=seed, n_samples=n_samples)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: draw(*one), work))
    for (n_rows, seed, n_samples), one in zip(work, found, strict=True):
        expected = sample(cpu, x[:n_rows], seed=seed, n_samples=n_samples)
        torch.testing.assert_close(one, expected, **CLOSE)
    assert len(caplog.records) == isinstance(fake, Failing)


def test_threads_that_fail_together_fail_once(caplog: pytest.LogCaptureFixture) -> None:
    fake, both = Failing(), threading.Barrier(2, timeout=30)
    plan, turn, x = on_the_way_of_a_gpu(network(), fake), fake.turn, torch.randn(2, 6)

    def together() -> AbstractContextManager[None]:
        both.wait()
        return turn()

    fake.turn = together
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda seed: sample(plan, x, seed=seed, n_samples=5), (0, 1)))
    assert (fake.captures, len(caplog.records)) == (1, 1)


def test_a_network_that_takes_over_has_graphs_of_its_own() -> None:
    """They share masks, as versions in a service do."""
    masks, x = MaskCache(), torch.randn(3, 6)
    nets = [network(seed=seed) for seed in (0, 1)]
    plans = [on_the_way_of_a_gpu(net, masks=masks) for net in nets]
    for _ in range(2):
        for plan, net in zip(plans, nets, strict=True):
            found = sample(plan, x, seed=5, n_samples=12)
            torch.testing.assert_close(found, sample(plain(net), x, seed=5, n_samples=12), **CLOSE)


def test_graphs_go_with_their_network_at_once() -> None:
    plan, x = on_the_way_of_a_gpu(network(), Remembering()), torch.randn(3, 6)
    first = sample(plan, x, seed=5, n_samples=12)
    assert torch.equal(sample(plan, x, seed=5, n_samples=12), first)
    assert len(plan.graphs) == 1
    gone = [weakref.ref(plan), weakref.ref(plan.graphs), weakref.ref(plan.weights[0])]
    gc.disable()
    try:
        del plan
        assert [one() for one in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_draw_ends_between_its_blocks_and_never_within_a_capture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "GPU_BLOCK_FLOATS", 20 * 16)
    fake, looks = Fake(), []
    plan = on_the_way_of_a_gpu(network(), fake)

    def is_cancelled() -> bool:
        looks.append(fake.replays)
        return len(looks) == 4

    with cancellable(is_cancelled), pytest.raises(ComputationCancelledError):
        sample(plan, torch.randn(4, 6), seed=0, n_samples=160)
    assert fake.captures == 1
    # Masks are drawn first; the first block was replayed to be looked at, too.
    assert looks == [0, 0, 2, 3]
    found = sample(plan, torch.ones(4, 6), seed=0, n_samples=160)
    expected = sample(plain(network()), torch.ones(4, 6), seed=0, n_samples=160)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_buffers_of_inference_mode_serve_outside_it() -> None:
    net, x = network(), torch.randn(2, 6)
    plan = on_the_way_of_a_gpu(net)
    with torch.inference_mode():
        inside = sample(plan, x, seed=0, n_samples=5)
    outside = sample(plan, x, seed=0, n_samples=5)
    torch.testing.assert_close(inside.clone(), outside)


def test_sizes_are_rounded_up_to_powers_of_two() -> None:
    sizes: Sequence[int] = (1, 2, 3, 4, 5, 100, 128, 129)
    assert [round_up(n) for n in sizes] == [1, 2, 4, 4, 8, 128, 128, 256]
    assert [round_up(n, 16) for n in sizes] == [16, 16, 16, 16, 16, 128, 128, 256]


def test_the_cpu_has_no_graphs() -> None:
    assert make_plan(network()).graphs is None
