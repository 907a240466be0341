"""The risk-coverage curve by hand, and where it says to abstain."""

import numpy as np
import pytest

from models.selective import LEAST_ACCEPTED, MOST_ACCEPTED, risk_curve


def test_the_curve_accepts_rows_in_order_of_uncertainty() -> None:
    curve = risk_curve(np.array([3.0, 1.0, 2.0]), np.array([9.0, 1.0, 2.0]))
    assert curve.risks.tolist() == [1.0, 1.5, 4.0]
    assert curve.area == pytest.approx(6.5 / 3)
    assert [curve.risk_at(share) for share in (1.0, 0.67, 0.3, 0.0)] == [4.0, 1.5, 1.0, 1.0]


def test_the_area_of_a_perfect_order_is_known() -> None:
    """k wrong of n rows, all of them last: the sum of 1/n … over the wrong ones."""
    losses = np.array([0.0] * 80 + [1.0] * 20)
    expected = sum(i / (80 + i) for i in range(1, 21)) / 100
    assert risk_curve(np.arange(100.0), losses).area == pytest.approx(expected)
    shuffled = np.random.default_rng(0).permutation(losses)
    assert risk_curve(np.arange(100.0), shuffled).area > 2 * expected


def accepted(uncertainties: np.ndarray, losses: np.ndarray) -> float:
    return float((uncertainties <= risk_curve(uncertainties, losses).threshold()).mean())


def test_rows_that_cost_more_than_twice_the_mean_are_left_out() -> None:
    """Losses 1, but 3 in the last eighth: the mean is 1.25, twice that is between both."""
    uncertainties = np.arange(800.0)
    losses = np.where(uncertainties < 700, 1.0, 3.0)
    assert risk_curve(uncertainties, losses).threshold() == 699.5


@pytest.mark.parametrize("fault", [0.0, 1.0])
def test_where_all_rows_cost_the_same_nearly_all_are_accepted(fault: float) -> None:
    assert accepted(np.arange(100.0), np.full(100, fault)) == MOST_ACCEPTED


def test_not_less_than_four_fifths_are_accepted() -> None:
    losses = np.where(np.arange(100) < 50, 0.0, 10.0) + np.where(np.arange(100) < 80, 0.0, 30.0)
    assert accepted(np.arange(100.0), losses) == LEAST_ACCEPTED


def test_equal_uncertainties_stay_together() -> None:
    """Ties from the 70th to the 99th row: no threshold lies between the bounds."""
    uncertainties = np.minimum(np.arange(100.0), 69.0)
    assert accepted(uncertainties, np.ones(100)) == 1.0
    uncertainties[-2:] = 70.0
    assert accepted(uncertainties, np.ones(100)) == 0.98
    assert accepted(np.zeros(10), np.ones(10)) == 1.0


@pytest.mark.parametrize("n", range(10, 40))
def test_any_number_of_rows_gives_a_threshold(n: int) -> None:
    share = accepted(np.arange(float(n)), np.random.default_rng(n).random(n))
    assert LEAST_ACCEPTED <= share <= max(MOST_ACCEPTED, (n - 1) / n)
