"""How often does the sequential test find a better generator? ``python -m benchmarks.sequential [--runs 2000]``.

Prompts have win rates of their own, spread around the true one (a standard deviation of 0.2), and two videos each. It
is looked at after every prompt; "better" counts whenever it was said first. Beside it, what a user would do in its
place: a binomial test over videos, looked at once and after every prompt.
"""

import numpy as np
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table
from scipy.stats import binom

from alignment.sequential import LEVEL, e_values
from videoduet.progress import console

RATES, PROMPTS, VIDEOS, SPREAD = (0.5, 0.55, 0.6, 0.7), (64, 128, 256), 2, 0.2


def win_rates(rng: np.random.Generator, rate: float, runs: int, prompts: int) -> np.ndarray:
    """Win rates (runs, prompts) of VIDEOS videos each, whose chances differ by prompt and have the mean ``rate``."""
    strength = rate * (1 - rate) / SPREAD**2 - 1
    chances = rng.beta(rate * strength, (1 - rate) * strength, (runs, prompts))
    return rng.binomial(VIDEOS, chances) / VIDEOS


def binomial(means: np.ndarray) -> np.ndarray:
    """One-sided p-values (runs, prompts) of all videos so far, as if they were independent."""
    wins = np.cumsum(np.rint(means * VIDEOS), axis=1)
    return np.asarray(binom.sf(wins - 1, VIDEOS * np.arange(1, means.shape[1] + 1), 0.5))


def main(runs: int = 2000, seed: int = 0) -> None:
    """Print the shares of runs in which "better" is said.

    Args:
        runs: Runs of each kind.
        seed: Of all.
    """
    rng = np.random.default_rng(seed)
    table = Table("true win rate", "prompts", "e-process, any time", "binomial, at the end", "binomial, any time")
    for rate in RATES:
        means = win_rates(rng, rate, runs, max(PROMPTS))
        found, p = e_values(means) >= 1 / LEVEL, binomial(means) <= LEVEL
        for count in PROMPTS:
            shares = found[:, :count].any(1), p[:, count - 1], p[:, :count].any(1)
            table.add_row(f"{rate:g}", str(count), *(f"{100 * share.mean():.1f} %" for share in shares))
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False)
