"""Whether a generator is surely better, asked again after every prompt, and answered without being fooled by asking.

A test that is looked at until it says yes says yes sooner or later. An e-process does not: whatever decides when to
stop, under the null it reaches 1/α with probability α at most (Ville 1939). This one bets on the next prompt's win rate
(Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting", eq. 24: capital
K_t = Π (1 + λ (x_i - m))), with capital split evenly over fixed bets λ, so that none has to be guessed.

One prompt is one bet: several videos of a prompt are not independent, so their mean is what is given.

A run bets again after each round, and would be fooled in one of them sooner or later: a :class:`Budget` shares out the
level over a whole run, however long.
"""

import numpy as np

from videoduet.errors import InputError

LEVEL = 0.05
SHARES = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95)
"""The bets, as shares of the largest, 1/m, that no outcome can make lose more than all."""
SPENT = 0.75
"""What a round may spend of what is left of a run's level: most, for the first rounds are those that runs have."""


class WinEProcess:
    """An anytime-valid test that win rates exceed ``null``.

    ``e_value`` is its capital, 1 at the beginning: evidence against "no better", to be read at any time. ``better``
    says whether it has ever reached 1/``level``, which happens with probability ``level`` at most where the mean win
    rate of every prompt, given those before, is ``null`` or less.
    """

    def __init__(self, null: float = 0.5, level: float = LEVEL):
        if not (0 < null < 1 and 0 < level < 1):
            raise InputError(f"A test needs null and level between 0 and 1, not {null} and {level}.")
        self.null, self.level, self.prompts = null, level, 0
        self._log_capital = np.zeros(len(SHARES))
        self._most = 1.0

    def update(self, prompt_mean: float) -> float:
        """The e-value after one more prompt, whose videos win in ``prompt_mean`` in [0, 1] of their cases (a tie or a
        disagreement counts ½). Raises InputError for another number.
        """
        if not 0 <= prompt_mean <= 1:
            raise InputError(f"A prompt's win rate is {prompt_mean}; it must lie in [0, 1].")
        self._log_capital += _log_growth(np.array(prompt_mean), self.null)
        self.prompts += 1
        self._most = max(self._most, self.e_value)
        return self.e_value

    @property
    def e_value(self) -> float:
        """The capital now: the mean over all bets."""
        return float(np.exp(self._log_capital).mean())

    @property
    def better(self) -> bool:
        """Whether it is surely better, now or at any time before."""
        return self._most >= 1 / self.level


class Budget:
    """The chance of being fooled that a whole run may spend: the probability that it ever says "better" of a version
    that is not is ``level`` at most, however many rounds there are, and however their verdicts depend on one another.

    Each round may spend SPENT of what is ``left`` (alpha spending), and what is spent on a bet that is won comes back
    (the fallback procedure, Wiens & Dmitrienko 2005). A round bets against the base, and against the best version so
    far where that is another: half each. Any of the ``rounds`` before could have been the best, so that each of them
    has a share of that half, whether it is bet against or not.
    """

    def __init__(self, level: float = LEVEL):
        self.left, self.rounds = level, 0

    def levels(self, both: bool) -> tuple[float, float]:
        """The levels of the next round's bets against the base and against the best (0 unless it bets on ``both``)."""
        spent = SPENT * self.left
        return (spent / 2, spent / 2 / self.rounds) if both else (spent, 0.0)

    def settle(self, over_base: bool, over_best: bool | None = None) -> None:
        """The next round bet, and which of its bets it won (None: the base is the best so far)."""
        spent = SPENT * self.left
        levels = self.levels(over_best is not None)
        self.left += levels[0] * over_base + levels[1] * bool(over_best) - spent
        self.rounds += 1


def e_values(prompt_means: np.ndarray, null: float = 0.5) -> np.ndarray:
    """The e-values (..., n) after each of the prompts whose win rates are ``prompt_means`` (..., n), in their order:
    what :class:`WinEProcess` gives one by one.
    """
    return np.exp(np.cumsum(_log_growth(prompt_means, null), axis=-2)).mean(-1)


def _log_growth(prompt_means: np.ndarray, null: float) -> np.ndarray:
    """By what each bet (..., bets) multiplies its capital."""
    return np.log1p(np.array(SHARES) / null * (prompt_means[..., None] - null))


def fewest_prompts(null: float = 0.5, level: float = LEVEL) -> int:
    """With so many prompts, all of which win, it is sure; with fewer it never can be."""
    count = 1
    while float(e_values(np.ones(count), null)[-1]) < 1 / level:
        count += 1
    return count


def fewest_sentence(prompts: int, level: float = LEVEL, of: int = 1) -> str | None:
    """What to say where there are too few ``prompts``, of which one in ``of`` bets, to be sure of anything; None where
    there are enough.
    """
    needed = fewest_prompts(level=level)
    if prompts // of >= needed:
        return None
    return f"{prompts} held-out prompts cannot show which round is better; give at least {of * needed}."
