"""Answer or abstain: what it costs and gains to leave out the rows that are most uncertain.

The risk-coverage curve (El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017): accept the rows in
order of their uncertainty, and look at the mean loss of those accepted so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Not to answer a row costs as much as this many times the mean loss of all rows.
COST_OF_ABSTAINING = 2.0
# Bounds on the share of rows that the threshold accepts: where the curve is flat, or too few
# rows make it ragged, it would accept all or nearly none.
LEAST_ACCEPTED, MOST_ACCEPTED = 0.80, 0.95


@dataclass(frozen=True)
class RiskCurve:
    """Rows in order of uncertainty: theirs, ascending (N,), and the mean loss `risks` (N,) of
    each row together with all before it."""

    uncertainties: Array
    risks: Array

    @property
    def area(self) -> float:
        """Mean of the selective risk over all shares of accepted rows (AURC)."""
        return float(self.risks.mean())

    def risk_at(self, share: float) -> float:
        """The mean loss of that share of rows, the least uncertain ones; at least one row."""
        return float(self.risks[max(1, round(share * len(self.risks))) - 1])

    def threshold(self) -> float:
        """The uncertainty above which abstaining costs less than answering.

        Chow's rule (1970) on the curve: of all shares between `LEAST_ACCEPTED` and
        `MOST_ACCEPTED` the one with the least sum of the losses of accepted rows and of
        `COST_OF_ABSTAINING` times the mean loss for each other row; of equal ones the
        largest. Rows of equal uncertainty are accepted together or not at all.
        """
        n = len(self.risks)
        counts = np.arange(1, n + 1)
        costs = self.risks * counts + COST_OF_ABSTAINING * self.risks[-1] * (n - counts)
        is_end = np.append(np.diff(self.uncertainties) > 0.0, True)
        allowed = is_end & (counts >= LEAST_ACCEPTED * n) & (counts <= MOST_ACCEPTED * n)
        if allowed.any():
            best = int(counts[allowed & (costs <= costs[allowed].min())].max())
        else:
            best = int(counts[is_end & (counts >= LEAST_ACCEPTED * n)].min())
        return float(self.uncertainties[best - 1 : best + 1].mean())


def risk_curve(uncertainties: Array, losses: Array) -> RiskCurve:
    """The curve of rows with these uncertainties and losses, (N,) each."""
    order = np.argsort(uncertainties, kind="stable")
    risks = np.cumsum(losses[order]) / np.arange(1, len(order) + 1)
    return RiskCurve(uncertainties[order], risks)
