"""Where the masks of a plan come from."""

from __future__ import annotations

from models.masks import MaskStream, StratifiedStream, Stream
from models.plan import Plan

# Values that are drawn at once.
_BLOCK = 2**20


def open_stream(
    plan: Plan,
    seed: int,
    n_samples: int,
    *,
    first: int = 0,
    samples_per_design: int | None = None,
    is_whole: bool = True,
) -> Stream:
    """The masks that a seed names, independent ones or stratified in designs of that size; kept
    for the next time where all of them are going to be used."""

    def make() -> Stream:
        if samples_per_design is None:
            return MaskStream(plan.sites, seed, first=first, device=plan.device)
        return StratifiedStream(
            plan.sites, seed, samples_per_design=samples_per_design, device=plan.device
        )

    if not is_whole:
        return make()
    key = (plan.sites, plan.device, seed, n_samples, first, samples_per_design)
    block = max(1, _BLOCK // max(1, plan.noise_per_sample))
    return plan.masks.stream(key, n_samples, plan.mask_bytes, make, block)
