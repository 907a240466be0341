"""Small regressions, drawn and summarised in one call of the compiled kernel.

What `models.estimators` does for all others in steps takes longer between the steps than in them
where there are few numbers. The answer is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models import kernel
from models.kernel.sharing import CALL_PRODUCTS
from models.plan import Plan, first_noisy_site, whole_scale
from models.sampling import open_stream, samples_per_block
from models.table import Target
from models.uncertainty import RegressionSummary
from models.variance_reduction import MOST_SAMPLES_PER_DESIGN, RULES, in_units, is_gaussian


def summarise_at_once(
    plan: Plan, target: Target, x: Tensor, seed: int, n_samples: int, estimator: str,
    quantiles: Sequence[float],
) -> RegressionSummary | None:  # fmt: skip
    """The summary of the rows x (N, D) by `mc`, `stratified` or `control_variate`; None if it is
    not small, or not a regression that the kernel knows."""
    if plan.kernel is None or plan.config.head != "regression":
        return None
    products = len(x) * n_samples * plan.products_per_row
    if products > CALL_PRODUCTS or n_samples > samples_per_block(plan):
        return None
    site, last = first_noisy_site(plan), len(plan.sites) - 1
    reduced, design = None, None
    if estimator != "mc":
        sampled = [i for i in range(site, last) if plan.sites[i].is_active]
        reduced = estimator == "control_variate", is_gaussian(plan, sampled), RULES
        design = min(n_samples, MOST_SAMPLES_PER_DESIGN)
    masks = open_stream(plan, seed, n_samples, samples_per_design=design).take(n_samples)
    moments = [site.moments for site in plan.sites]
    found = kernel.answer(
        plan.kernel, x, moments, site, masks, n_samples, quantiles, reduced, whole_scale(plan)
    )
    return in_units(target, found)
