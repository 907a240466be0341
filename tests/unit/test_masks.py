"""Seeded masks: the same bits whatever the device, the number of samples, or the cut."""

import hashlib

import numpy as np
import pytest
import torch

from models.masks import MaskStream, NoiseSite

SITES = (
    NoiseSite("bernoulli", 0.0, 13),
    NoiseSite("bernoulli", 0.1, 255),
    NoiseSite("bernoulli", 0.5, 64),
)


def words(
    seed: int, sites: tuple[NoiseSite, ...] = SITES, n: int = 20
) -> list[torch.Tensor | None]:
    return MaskStream(sites, seed).take(n)


def test_shapes_and_values() -> None:
    nothing, first, second = words(0)
    assert nothing is None
    assert first.shape == (20, 255)
    assert second.shape == (20, 64)
    assert first.dtype is torch.float32
    assert set(first.unique().tolist()) == {0.0, np.float32(1 / 0.9).item()}
    assert set(second.unique().tolist()) == {0.0, 2.0}


def test_the_same_seed_gives_the_same_masks_and_another_seed_others() -> None:
    for a, b, c in zip(words(5), words(5), words(6), strict=True):
        if a is not None:
            assert torch.equal(a, b)
            assert not torch.equal(a, c)


def test_a_sample_does_not_depend_on_how_many_are_drawn_or_how_they_are_cut() -> None:
    whole = words(3, n=50)
    stream = MaskStream(SITES, 3)
    parts = [stream.take(n) for n in (1, 2, 30, 17)]
    late = MaskStream(SITES, 3, first=33).take(17)
    for site, mask in enumerate(whole):
        if mask is not None:
            assert torch.equal(mask, torch.cat([part[site] for part in parts]))
            assert torch.equal(mask[33:], late[site])


def test_layers_and_samples_have_masks_of_their_own() -> None:
    sites = (NoiseSite("bernoulli", 0.5, 64), NoiseSite("bernoulli", 0.5, 64))
    first, second = words(1, sites)
    assert not torch.equal(first, second)
    assert len({tuple(row.tolist()) for row in torch.cat([first, second])}) == 40


def test_the_bits_are_those_of_every_release_and_machine() -> None:
    """Whoever stored a seed counts on these masks: this may never change."""
    digests = [
        hashlib.sha256((mask != 0.0).numpy().tobytes()).hexdigest()[:16]
        for mask in words(2**62 + 12345)
        if mask is not None
    ]
    assert digests == ["44bbff48411fea5c", "c0fad6840900e09b"]


def test_the_words_are_numpys_documented_stream() -> None:
    """An independent way to the same bits: PCG64DXSM words, split low half first."""
    (mask,) = MaskStream((NoiseSite("bernoulli", 0.25, 6),), 9).take(4)
    raw = np.random.PCG64DXSM(np.random.SeedSequence(9)).random_raw(12)
    halves = [half for word in raw.tolist() for half in (word & 0xFFFFFFFF, word >> 32)]
    kept = np.array(halves).reshape(4, 6) >= 0.25 * 2**32
    np.testing.assert_array_equal(mask.numpy() != 0.0, kept)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "concrete", "dropconnect"])
def test_p_1_gives_zeros_and_p_0_draws_nothing(kind: str) -> None:
    ones, never = MaskStream((NoiseSite(kind, 1.0, 5), NoiseSite(kind, 0.0, 5)), 0).take(3)
    assert torch.equal(ones, torch.zeros(3, 5))
    assert never is None


def test_without_active_sites_there_is_nothing_to_draw() -> None:
    assert MaskStream((NoiseSite("bernoulli", 0.0, 5),), 0).take(3) == [None]
