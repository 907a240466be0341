"""A bit for each mask value: the same masks, whoever unpacks them."""

import numpy as np
import pytest
import torch

from models import MLP, MLPConfig, streams
from models.mask_cache import MaskCache
from models.masks import MaskStream, NoiseSite, StratifiedStream, Stream
from models.packed import Packed, bits_of, join
from models.plan import make_plan, with_own_masks
from models.streams import open_stream
from tests.unit.recorders import KINDS, network

SIZES = (1, 5, 63, 64, 65, 200)
SITES = tuple(NoiseSite("bernoulli", p, size) for size in SIZES for p in (0.0, 0.3, 1.0))


def both() -> list[Stream]:
    return [MaskStream(SITES, 3), StratifiedStream(SITES, 3, samples_per_design=6)]


@pytest.mark.parametrize("which", [0, 1])
def test_bits_are_the_values(which: int) -> None:
    for site, packed, values in zip(
        SITES, both()[which].draw(11), both()[which].take(11), strict=True
    ):
        if site.p == 0.0:
            assert packed is values is None
            continue
        assert isinstance(packed, Packed)
        assert values.shape == packed.shape == (11, site.size)
        scale = 0.0 if site.p == 1.0 else 1.0 / 0.7
        for sample in range(11):
            octets = packed.bits[sample].numpy().view(np.uint8)
            kept = [octets[k // 8] >> k % 8 & 1 for k in range(site.size)]
            expected = torch.tensor(kept, dtype=torch.float32) * np.float32(scale)
            assert torch.equal(values[sample], expected)


def test_a_part_is_that_part() -> None:
    packed = Packed.of(np.random.default_rng(0).random((9, 70)) < 0.5, 2.0)
    assert torch.equal(packed[3:7].unpack(), packed.unpack()[3:7])
    joined = join([packed[:4], packed[4:]])
    assert isinstance(joined, Packed)
    assert torch.equal(joined.bits, packed.bits)
    assert (joined.size, joined.scale) == (70, 2.0)


@pytest.mark.parametrize("size", SIZES)
def test_another_device_unpacks_the_same(size: int) -> None:
    packed = Packed.of(np.random.default_rng(size).random((9, size)) < 0.5, 1.0 / 0.7)
    assert torch.equal(packed.unpack_by_torch(), packed.unpack())


def test_noise_that_does_more_than_drop_is_not_packed() -> None:
    sites = (NoiseSite("gaussian", 0.3, 5), NoiseSite("gaussian", 1.0, 5))
    for stream in (MaskStream(sites, 3), StratifiedStream(sites, 3, samples_per_design=6)):
        noise, dropped = stream.draw(7)
        assert isinstance(noise, torch.Tensor)
        assert isinstance(dropped, Packed)
        assert not dropped.unpack().any()


def test_the_lowest_bit_is_the_first_unit() -> None:
    kept = np.zeros((2, 11), dtype=bool)
    kept[0, [0, 3, 8]] = kept[1, 10] = True
    assert Packed.of(kept, 1.0).bits.tolist() == [[0b1_0000_1001], [0b100_0000_0000]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_a_sample_are_those_that_there_are(kind: str) -> None:
    plan = make_plan(network(kind))
    drawn = open_stream(plan, 0, 6).draw(6)
    n_bytes = sum(bits_of(mask).nbytes for mask in drawn if mask is not None)
    assert 6 * plan.mask_bytes == n_bytes


def test_a_cache_keeps_as_many_packed_masks_as_fit() -> None:
    cache = MaskCache(most_bytes=8 * 20 * (64 + 128) // 8)
    plan = make_plan(MLP(MLPConfig(6, 1, (64, 128), p=0.3)), masks=cache)
    first = [open_stream(plan, seed, 20).draw(20) for seed in range(30)][-1]
    assert open_stream(plan, 29, 20).draw(20) is first
    assert len(cache) == 8


def test_many_samples_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which each has the words of its own samples."""
    plan = make_plan(network())
    whole = open_stream(plan, 0, 50).take(50)
    monkeypatch.setattr(streams, "_BLOCK", 7 * plan.noise_per_sample)
    parts = open_stream(with_own_masks(plan), 0, 50).take(50)
    for part, mask in zip(parts, whole, strict=True):
        assert torch.equal(part, mask)
