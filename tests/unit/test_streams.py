"""Masks as bits: unpacked they are what they were before, to the bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models import MLP, MLPConfig
from models.mask_cache import MaskCache, Stream
from models.masks import MaskStream, NoiseSite, StratifiedStream
from models.plan import Plan, make_plan
from models.sampling import open_stream
from models.streams import Shipped, pack, unpack
from tests.unit.recorders import KINDS, network, on_the_way_of_a_gpu

SITES = (
    *(NoiseSite("bernoulli", p, 7) for p in (0.0, 1.0, 0.9999)),
    *(NoiseSite("bernoulli", 0.3, size) for size in (1, 8, 9, 31, 32, 33, 255)),
    NoiseSite("dropconnect", 0.7, 35),
    NoiseSite("gaussian", 0.2, 13),
    NoiseSite("concrete", 0.2, 13),
)


def stream(name: str) -> Stream:
    return MaskStream(SITES, 4) if name == "independent" else StratifiedStream(
        SITES, 4, samples_per_design=20
    )  # fmt: skip


def bits(mask: Tensor | None) -> list[int]:
    return [] if mask is None else mask.contiguous().view(torch.int32).flatten().tolist()


@pytest.mark.parametrize("name", ["independent", "stratified"])
def test_masks_come_back_to_the_bit(name: str) -> None:
    plain, shipped = stream(name), Shipped(stream(name), SITES, "cpu")
    for n_samples in (1, 2, 13, 40):
        packed = shipped.take(n_samples)
        for site, mask, bytes_ in zip(SITES, unpack(SITES, packed), packed, strict=True):
            assert mask is None or (mask.dtype is torch.float32 and mask.is_contiguous())
            if bytes_ is not None:
                expected = torch.uint8 if site.is_binary else torch.float32
                assert bytes_.dtype is expected
        for found, mask in zip(unpack(SITES, packed), plain.take(n_samples), strict=True):
            assert (found is None) == (mask is None)
            assert found is None or found.shape == mask.shape
            assert bits(found) == bits(mask)


def test_the_lowest_bit_is_the_first_unit() -> None:
    mask = torch.zeros(2, 11)
    mask[0, 0] = mask[0, 3] = mask[0, 8] = mask[1, 10] = 1.25
    assert pack(mask).tolist() == [[0b1001, 0b1], [0, 0b100]]


def test_masks_that_are_not_packed_are_left_as_they_are() -> None:
    masks = MaskStream(SITES, 4).take(3)
    for found, mask in zip(unpack(SITES, masks), masks, strict=True):
        assert found is mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [make_plan, on_the_way_of_a_gpu])
def test_the_bytes_of_a_sample_are_those_that_there_are(
    kind: str, make: Callable[[MLP], Plan]
) -> None:
    plan = make(network(kind))
    masks = open_stream(plan, 0, 6).take(6)
    n_bytes = sum(mask.numel() * mask.element_size() for mask in masks if mask is not None)
    assert 6 * plan.mask_bytes == n_bytes


def test_a_cache_keeps_32_times_as_many_packed_masks() -> None:
    net = MLP(MLPConfig(6, 1, (64, 128), p=0.3))
    kept = []
    for plan in (make_plan(net), on_the_way_of_a_gpu(net)):
        cache = MaskCache(most_bytes=8 * 20 * 4 * (64 + 128))
        shared = make_plan(net, masks=cache) if plan.graphs is None else on_the_way_of_a_gpu(
            net, masks=cache
        )  # fmt: skip
        for seed in range(300):
            first = open_stream(shared, seed, 20).take(20)
        again = open_stream(shared, 299, 20).take(20)
        for a, b in zip(first, again, strict=True):
            assert a is b
        kept.append(len(cache))
    assert kept == [8, 256]


def test_packed_and_plain_masks_of_one_seed_are_kept_apart() -> None:
    net, cache = MLP(MLPConfig(6, 1, (20,), p=0.3)), MaskCache()
    plain = open_stream(make_plan(net, masks=cache), 0, 10).take(10)[1]
    packed = open_stream(on_the_way_of_a_gpu(net, masks=cache), 0, 10).take(10)[1]
    assert plain is not None
    assert packed is not None
    assert (plain.shape, packed.shape) == ((10, 20), (10, 3))
    np.testing.assert_array_equal(
        np.unpackbits(packed.numpy(), axis=1, bitorder="little")[:, :20], plain.numpy() != 0.0
    )
