"""How sure a figure is: intervals of proportions, of resampled statistics, and of what is nearly normal."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np

Array = Sequence[float] | np.ndarray
NORMAL_95 = 1.959963984540054
"""Half the width of a normal distribution's middle 95 %, in standard deviations."""


def wilson_interval(rate: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Low and high end of the interval of a proportion ``rate`` in [0, 1] of ``n`` cases (Wilson 1927); ``z`` = 1.96
    makes it 95 %.
    """
    centre, spread = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def percentile_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Low and high end of the middle 95 % of replicates (N,), those that are no finite numbers left out; None where
    there are none.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: Array,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Low and high end of the percentile bootstrap interval of ``statistic(*samples)``.

    Items are drawn with replacement, the samples (N,) as pairs. Resamples where the statistic is not defined are left
    out. (NaN, NaN) for fewer than two items.
    """
    # Nearly a second, which nobody should wait for who only wants a proportion's interval.
    from scipy.stats import DegenerateDataWarning, bootstrap

    samples = tuple(map(np.asarray, samples))
    if len(samples[0]) < 2:
        return float("nan"), float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            samples, statistic, n_resamples=resamples, confidence_level=confidence, paired=len(samples) > 1,
            vectorized=False, method="percentile", rng=np.random.default_rng(seed),
        )  # fmt: skip
    defined = result.bootstrap_distribution[np.isfinite(result.bootstrap_distribution)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
