"""Masks that are kept: the same as drawn ones, and no more of them than fit."""

import pytest
import torch

from models import MLP, MLPConfig, mask_cache
from models.draw import Draw
from models.estimators import estimate
from models.mask_cache import MaskCache
from models.masks import MaskStream, NoiseSite
from models.plan import with_own_masks
from models.sampling import make_plan, sample
from models.table import Target

SITES = (NoiseSite("bernoulli", 0.0, 5), NoiseSite("bernoulli", 0.3, 64))
BYTES = 4 * 64


class Counting:
    """Makes streams, and knows how many."""

    made = 0

    def __call__(self) -> MaskStream:
        self.made += 1
        return MaskStream(SITES, 7)


def test_a_second_draw_is_the_first_ones() -> None:
    cache, make = MaskCache(), Counting()
    _, whole = MaskStream(SITES, 7).take(20)
    for _ in range(3):
        stream = cache.stream("key", 20, BYTES, make)
        parts = [stream.take(n) for n in (2, 5, 13)]
        assert all(nothing is None for nothing, _ in parts)
        assert torch.equal(torch.cat([mask for _, mask in parts]), whole)
    assert make.made == 1


def test_what_was_not_asked_for_lately_goes() -> None:
    cache, make = MaskCache(most_bytes=4 * 20 * BYTES), Counting()
    for key in (0, 1, 2, 3, 0, 4):
        cache.stream(key, 20, BYTES, make)
    assert len(cache) == 4
    for key, is_kept in ((0, True), (2, True), (3, True), (4, True), (1, False)):
        before = make.made
        cache.stream(key, 20, BYTES, make)
        assert (make.made == before) == is_kept


def test_small_draws_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_cache, "MOST_DRAWS", 3)
    cache, make = MaskCache(), Counting()
    for key in (0, 1, 2, 0, 3):
        cache.stream(key, 20, BYTES, make)
    assert (len(cache), make.made) == (3, 4)
    cache.stream(1, 20, BYTES, make)
    assert make.made == 5


def test_a_large_draw_is_not_kept() -> None:
    cache, make = MaskCache(most_bytes=4 * 20 * BYTES), Counting()
    stream = cache.stream("key", 21, BYTES, make)
    assert stream.take(21)[1].shape == (21, 64)
    assert len(cache) == 0


def test_a_fresh_seed_leaves_the_cache_as_it_was() -> None:
    plan, y = make_plan(MLP(MLPConfig(6, hidden=(8,), p=0.3))), Target("y")
    x, draw = torch.randn(3, 6), Draw(n_samples=40, seed=9)
    own = with_own_masks(plan)
    fresh = estimate(own, y, x, draw)
    assert (len(plan.masks), len(own.masks)) == (0, 1)
    kept = estimate(plan, y, x, draw)
    assert (kept.summary.mean == fresh.summary.mean).all()
    assert len(plan.masks) == 1


@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate"])
def test_plans_that_share_a_cache_answer_as_alone(estimator: str) -> None:
    """Of other weights, other p, other seeds and other T, each twice."""
    shared, y = MaskCache(), Target("y")
    x = torch.randn(3, 6)
    for p in (0.2, 0.3):
        torch.manual_seed(0)
        net = MLP(MLPConfig(6, 1, (20, 15), p=p))
        for seed, n_samples in ((0, 30), (1, 30), (0, 40)):
            draw = Draw(n_samples, seed, estimator)
            alone = estimate(make_plan(net), y, x, draw).summary
            for _ in range(2):
                found = estimate(make_plan(net, masks=shared), y, x, draw).summary
                assert found.mean.tolist() == alone.mean.tolist()
                assert found.epistemic_std.tolist() == alone.epistemic_std.tolist()
    assert len(shared) == 6


def test_drawing_leaves_kept_masks_as_they_are() -> None:
    plan = make_plan(MLP(MLPConfig(6, 1, (20, 15), p=0.3, input_p=0.1)))
    x = torch.randn(4, 6)
    first = sample(plan, x, seed=0, n_samples=50)
    for _ in range(3):
        assert torch.equal(sample(plan, x, seed=0, n_samples=50), first)
