"""Intervals against scipy's, and what must hold whatever the numbers."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from videoduet.intervals import NORMAL_95, percentile_interval, wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (3, 9), (24, 48), (5, 5)])
def test_wilson_interval_is_scipys(successes, n):
    theirs = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes / n, n, NORMAL_95) == pytest.approx((theirs.low, theirs.high))
    assert wilson_interval(successes / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_wilson_interval_keeps_its_bits():
    """What summaries of runs hold."""
    assert wilson_interval(1 / 3, 3) == (0.061490315276160515, 0.7923450448735121)


def test_normal_95_is_the_quantile():
    assert norm.ppf(0.975) == NORMAL_95


def test_percentile_interval():
    assert percentile_interval(np.arange(201.0)) == (5.0, 195.0)
    assert percentile_interval(np.array([np.nan, 3.0, np.inf])) == (3.0, 3.0)
    assert percentile_interval(np.array([np.nan])) is None and percentile_interval(np.array([])) is None
