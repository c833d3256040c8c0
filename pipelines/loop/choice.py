"""Which round a run keeps: the second judge bets once for each held-out prompt, and prompts that choose do not report.

A version that is looked at, taken for the best, and praised by what made it look best, is praised too much. So one half
of the held-out prompts bets (an e-process each, see :mod:`alignment.sequential`), and the other half gives the win rate
of what was chosen. "Better" is said at a level that a whole run shares out over its rounds; "worse", which only makes
it more careful, at that level in each bet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alignment.sequential import LEVEL, SPENT, Budget, WinEProcess, fewest_sentence
from pipelines.loop.summaries import Bet, MeasureSummary
from videoduet.records import Comparison, Prompt
from videoduet.seeding import seed_for

BASE = "G_0"
PARTS = 2
"""One held-out prompt in so many bets."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The version that a run keeps: the number of G_r, whether it is surely better than the base, and why it is this
    one, in a sentence.
    """

    number: int
    sure: bool
    reason: str


def halves(prompts: Sequence[Prompt], seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """The held-out prompts that bet, in the order in which they do, and those that report: by the prompts' own ids, so
    that a prompt never changes sides.
    """
    drawn = sorted(prompts, key=lambda prompt: seed_for(seed, "choice", prompt.id))
    betting = len(drawn) // PARTS
    return drawn[:betting], drawn[betting:]


def spent(earlier: Sequence[Mapping[str, Bet]]) -> Budget:
    """What is left of a run's level after the bets of ``earlier`` rounds (nothing of a round that did not bet)."""
    budget = Budget()
    for bets in earlier:
        others = [one.better for name, one in bets.items() if name != BASE]
        if bets:
            budget.settle(bets[BASE].better, others[0] if others else None)
        else:
            budget.rounds += 1
    return budget


def bet(
    comparisons: Sequence[Comparison], prompts: Sequence[Prompt], videos_per_prompt: int, level: float = LEVEL
) -> Bet:
    """Whether the first videos are better (at ``level``) or worse than the second ones: one bet for each of
    ``prompts``, on the mean of its videos, where what was not decided counts ½.
    """
    won = dict.fromkeys((prompt.id for prompt in prompts), 0.0)
    for one in comparisons:
        if one.prompt_id in won and one.preferred_id is not None:
            won[one.prompt_id] += (0.5 if one.preferred_id == one.first_id else -0.5) / videos_per_prompt
    better, worse = WinEProcess(level=level), WinEProcess()
    for lead in won.values():
        better.update(0.5 + lead)
        worse.update(0.5 - lead)
    return Bet(
        prompts=len(prompts), e_better=better.e_value, e_worse=worse.e_value, better=better.better and not worse.better,
        worse=worse.better and not better.better, needed=1 / level,
    )  # fmt: skip


def best_so_far(version: str, bets: Mapping[str, Bet], before: str) -> str:
    """The best version once ``version`` has bet, against the base and against the best ``before``: another takes its
    place where it is surely better and not surely worse than the base, or, both surely better than the base, where its
    bet against it holds the more.
    """
    over_base, over_best = bets[BASE], bets[before]
    leads = before != BASE and over_base.better and over_best.e_better > over_best.e_worse
    return version if (over_best.better and not over_base.worse) or leads else before


def said(bets: Mapping[str, Bet]) -> str:
    """What the bets of a version say, in words."""
    told = [
        f"{'better' if one.better else 'worse'} than {'the base' if name == BASE else f'the best so far, {name}'}"
        for name, one in bets.items()
        if one.better or one.worse
    ]
    return " and ".join(told) or "not yet surely better or worse"


def chosen(measured: Mapping[int, MeasureSummary], rounds: int, keep: Literal["best", "last"]) -> Choice | None:
    """The version that a run of so many rounds keeps, by what they ``measured``; None where nobody bet, so that the
    last one is kept without a word.
    """
    found = [measured[number] for number in range(1, rounds + 1) if number in measured and measured[number].bets]
    if len(found) < rounds:
        return None
    best = found[-1].best or BASE
    last = Choice(number=rounds, sure=best == found[-1].version, reason="")
    if keep == "last":
        return Choice(number=rounds, sure=last.sure, reason="The last round is kept, as the config says (score.keep).")
    if best != BASE:
        number = next(number for number, one in measured.items() if one.version == best)
        beaten = [name for name, one in measured[number].bets.items() if one.better] or [BASE]
        over = "the base" if BASE in beaten else f"{beaten[0]}, the best before it"
        return Choice(number=number, sure=True, reason=f"{best} is surely better than {over}, and no other round is "
                      "surer to be better than it.")  # fmt: skip
    return _unsure(found)


def _unsure(found: Sequence[MeasureSummary]) -> Choice:
    """Where no round is surely better than the base: the last that is not shown worse; the base where all are."""
    prompts = found[-1].bets[BASE].prompts
    few = fewest_sentence(prompts * PARTS, level=SPENT * LEVEL, of=PARTS)
    kept = [number for number, one in enumerate(found, 1) if not one.bets[BASE].worse]
    if not kept:
        return Choice(number=0, sure=False, reason="Every round is shown worse than the base, so nothing that was "
                      "learned is kept.")  # fmt: skip
    why = few or f"No round is surely better than the base by {prompts} held-out prompts."
    tail = "the last round is kept" if kept[-1] == len(found) else f"G_{kept[-1]}, the last not shown worse, is kept"
    return Choice(number=kept[-1], sure=False, reason=f"{why.rstrip('.')}; {tail}.")
