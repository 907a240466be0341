"""Small regressions, drawn and summarised in one call of the compiled kernel.

What `models.estimators` does for all others in steps takes longer between the steps than in them
where there are few numbers. The answer is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from models import kernel
from models.kernel.sharing import CALL_PRODUCTS
from models.plan import Plan
from models.reduced import MOST_SAMPLES_PER_DESIGN, is_gaussian
from models.sampling import open_stream, samples_per_block
from models.table import Target
from models.uncertainty import RegressionSummary, check_finite
from models.variance_reduction import RULES, in_units

# Questions that are kept for the next row that they are asked of, and bytes of each one's masks.
MOST_ASKED, MOST_BYTES = 16, 2**16


def summarise_at_once(
    plan: Plan, target: Target, x: Tensor | np.ndarray, seed: int, n_samples: int, estimator: str,
    quantiles: Sequence[float],
) -> tuple[RegressionSummary, np.ndarray] | None:  # fmt: skip
    """The summary of the rows x (N, D) by `mc`, `stratified` or `control_variate`, and the raw
    outputs (N, K) of eval mode; None if it is not small, or not a regression that the kernel knows.

    Raises:
        NonFiniteError: an output is not a finite number.
    """
    if plan.kernel is None or plan.config.head != "regression":
        return None
    per_sample = plan.products_per_row + kernel.QUANTILE_PRODUCTS * (1 + len(quantiles))
    products = x.shape[0] * n_samples * per_sample
    if products > CALL_PRODUCTS or n_samples > samples_per_block(plan):
        return None
    key = seed, n_samples, estimator, tuple(quantiles)
    asked = plan.asked.get(key)
    if asked is None:
        asked = _ask(plan, plan.kernel, *key)
        if n_samples * plan.mask_bytes <= MOST_BYTES:
            if len(plan.asked) >= MOST_ASKED:
                plan.asked.clear()
            plan.asked[key] = asked
    found, plain = asked.answer(x if isinstance(x, np.ndarray) else x.numpy())
    is_finite = np.isfinite(found)
    if np.count_nonzero(is_finite) < is_finite.size:
        check_finite(is_finite.all(axis=1))
    return in_units(target, found), plain


def _ask(
    plan: Plan, weights: kernel.Weights, seed: int, n_samples: int, estimator: str,
    quantiles: Sequence[float],
) -> kernel.Asked:  # fmt: skip
    site, last = plan.first_noisy_site, len(plan.sites) - 1
    reduced, design = None, None
    if estimator != "mc":
        sampled = [i for i in range(site, last) if plan.moments[i][1] > 0.0]
        reduced = estimator == "control_variate", is_gaussian(plan, sampled), RULES
        design = min(n_samples, MOST_SAMPLES_PER_DESIGN)
    masks = open_stream(plan, seed, n_samples, samples_per_design=design).draw(n_samples)
    return kernel.Asked(weights, plan.moments, site, masks, quantiles, reduced, plan.whole_scale)
