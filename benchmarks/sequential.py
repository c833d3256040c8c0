"""How often does the sequential test find a better generator? ``python -m benchmarks.sequential [--runs 2000]``.

Prompts have win rates of their own, spread around the true one (a standard deviation of 0.2), and two videos each. It
is looked at after every prompt; "better" counts whenever it was said first: of one bet alone, and of a bet as runs make
it, in their first round and in a second one after a first that was surely better. Beside it, what a user would do in
its place: a binomial test over videos, looked at once and after every prompt.

Then whole runs of which no round is better than the base: how many ever say so.
"""

import numpy as np
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table
from scipy.stats import binom

from alignment.sequential import LEVEL, Budget, e_values
from pipelines.loop.choice import BASE, best_so_far, spent
from pipelines.loop.summaries import Bet
from videoduet.progress import console

RATES, PROMPTS, VIDEOS, SPREAD = (0.5, 0.55, 0.6, 0.7), (64, 128, 256), 2, 0.2
NULL_PROMPTS, NULL_ROUNDS = (16, 64, 256), (1, 2, 5, 10)


def win_rates(rng: np.random.Generator, rate: float, runs: int, prompts: int) -> np.ndarray:
    """Win rates (runs, prompts) of VIDEOS videos each, whose chances differ by prompt and have the mean ``rate``."""
    strength = rate * (1 - rate) / SPREAD**2 - 1
    chances = rng.beta(rate * strength, (1 - rate) * strength, (runs, prompts))
    return rng.binomial(VIDEOS, chances) / VIDEOS


def binomial(means: np.ndarray) -> np.ndarray:
    """One-sided p-values (runs, prompts) of all videos so far, as if they were independent."""
    wins = np.cumsum(np.rint(means * VIDEOS), axis=1)
    return np.asarray(binom.sf(wins - 1, VIDEOS * np.arange(1, means.shape[1] + 1), 0.5))


def needed() -> tuple[float, float, float]:
    """The evidence that "better" takes: in a bet alone, in a run's first round, and in one after a better one."""
    budget = Budget()
    first, _ = budget.levels(both=False)
    budget.settle(True)
    return 1 / LEVEL, 1 / first, 1 / budget.levels(both=True)[0]


def null_bets(rng: np.random.Generator, runs: int, rounds: int, prompts: int) -> dict[tuple[int, int], np.ndarray]:
    """By a version and an earlier one, the evidence (runs, prompts, 2) of better and of worse, in runs where all
    versions are as good as the base over all prompts, each better at some and worse at others.
    """
    # All are compared with the same videos of the base, so that what was lucky in one round is so in the next.
    quality = rng.normal(size=(runs, rounds + 1, prompts, 1)) + rng.normal(size=(runs, rounds + 1, prompts, VIDEOS))
    found: dict[tuple[int, int], np.ndarray] = {}
    for version in range(1, rounds + 1):
        for other in range(version):
            means = (quality[:, version] > quality[:, other]).mean(-1)
            found[version, other] = np.stack([e_values(means), e_values(1 - means)], -1)
    return found


def falsely_better(evidence: dict[tuple[int, int], np.ndarray], run: int, rounds: int, shared: bool = True) -> bool:
    """Whether a run of which no round is better says that one is: at a level that is ``shared`` out over the run, as
    runs do, or at LEVEL in each bet.
    """
    earlier: list[dict[str, Bet]] = []
    best = BASE
    for version in range(1, rounds + 1):
        bets: dict[str, Bet] = {}
        levels = spent(earlier).levels(best != BASE)
        for other, level in zip(dict.fromkeys((BASE, best)), levels, strict=False):
            better, worse = evidence[version, int(other.removeprefix("G_"))][run].T
            takes = 1 / level if shared else 1 / LEVEL
            bets[other] = Bet(
                prompts=len(better), e_better=better[-1], e_worse=worse[-1], better=better.max() >= takes,
                worse=worse.max() >= 1 / LEVEL, needed=takes,
            )  # fmt: skip
        earlier.append(bets)
        best = best_so_far(f"G_{version}", bets, best)
    return any(bet.better for bets in earlier for bet in bets.values())


def main(runs: int = 2000, seed: int = 0) -> None:
    """Print the shares of runs in which "better" is said.

    Args:
        runs: Runs of each kind.
        seed: Of all.
    """
    rng = np.random.default_rng(seed)
    names = (f"{what}, {takes:.0f}" for what, takes in zip(("alone", "first round", "second"), needed(), strict=True))
    table = Table("true win rate", "prompts", *names, "binomial, at the end", "binomial, any time")
    for rate in RATES:
        means = win_rates(rng, rate, runs, max(PROMPTS))
        e, p = e_values(means), binomial(means) <= LEVEL
        for count in PROMPTS:
            said = [(e[:, :count] >= takes).any(1) for takes in needed()]
            shares = *said, p[:, count - 1], p[:, :count].any(1)
            table.add_row(f"{rate:g}", str(count), *(f"{100 * share.mean():.1f} %" for share in shares))
    console.print(table)
    table = Table("rounds, none better", "bets each", "ever better", "at 5 % each bet", title="whole runs")
    for prompts in NULL_PROMPTS:
        evidence = null_bets(rng, runs, max(NULL_ROUNDS), prompts)
        for rounds in NULL_ROUNDS:
            told = [np.mean([falsely_better(evidence, i, rounds, way) for i in range(runs)]) for way in (True, False)]
            table.add_row(str(rounds), str(prompts), *(f"{100 * share:.1f} %" for share in told))
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False)
