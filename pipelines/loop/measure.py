"""Measure a round's new generator on held-out prompts: by a judge that never labels, and by what else changed.

What is measured is a list of calls in :func:`measured`; one more is a line there and a field of
:class:`pipelines.loop.summaries.MeasureSummary`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from alignment.sequential import Budget
from evaluation.drift import Moved, Pair, drift
from pipelines.loop.choice import BASE, best_so_far, bet, halves, said, spent
from pipelines.loop.held_out import HeldOut, version_name, version_number, win_rate
from pipelines.loop.rival import Rival, preferred
from pipelines.loop.summaries import Bet, MeasureSummary, write_summary
from reward_model.judging.base import PairwiseJudge
from videoduet.progress import console

SecondJudge = Callable[[], PairwiseJudge] | None
"""Loads it; None where the config names none."""
SECOND = "second_judge"
NO_JUDGE = "No second judge, which never labels, is named (judge.second_path)."


@dataclass(frozen=True)
class Measuring:
    """What a measurement needs.

    Attributes:
        held_out: The held-out videos.
        judge: The second judge.
        best: The best version so far: the base before the first round, None where that is not known.
        earlier: The bets of the rounds before.
        rival: Gives what the generator is compared with beside its base; None: nothing.
        output: The phase's folder.
    """

    held_out: HeldOut
    judge: SecondJudge
    best: str | None
    earlier: Sequence[Mapping[str, Bet]]
    rival: Callable[[], Rival | None]
    output: Path


def measure_round(measuring: Measuring, *, round_number: int) -> None:
    """Draw the held-out videos of G_(r + 1), and before it those of the base, and measure the one against the other.

    Machines share out the drawing; the first measures.
    """
    number, held_out = round_number + 1, measuring.held_out
    base = [0] if held_out.missing([0]) else []
    notes = held_out.draw([*base, number], "held-out prompts: sample")
    if held_out.versions.machine.finishes:
        summary = measured(measuring, number, notes)
        if summary.bets:
            told = f"round {round_number}: {summary.version} is {said(summary.bets)}"
            console.print(told, markup=False, soft_wrap=True)
        write_summary(measuring.output, summary)
        held_out.versions.directory.finish(measuring.output, samples=len(held_out.items))


def measured(measuring: Measuring, number: int, notes: list[str]) -> MeasureSummary:
    """All that is measured of a version whose videos are drawn: each thing is a call here."""
    judge = None if measuring.judge is None else cache(measuring.judge)
    bets = placed(measuring.held_out, judge, number, measuring.best or BASE, spent(measuring.earlier))
    return MeasureSummary(
        version=version_name(number),
        notes=notes,
        win_rate=second_opinion(measuring.held_out, judge, number),
        reason=NO_JUDGE if judge is None else None,
        drift=drifted(measuring.held_out, number),
        bets=bets,
        best=best_so_far(version_name(number), bets, measuring.best) if bets and measuring.best else None,
        reported=reported(measuring.held_out, judge, number),
        best_of=preferred(measuring.rival, judge, measuring.output),
    )


def second_opinion(held_out: HeldOut, second_judge: SecondJudge, number: int) -> dict[str, dict[str, float | int]]:
    """The win rate over the base by the second judge, under its name; nothing where there is none."""
    if second_judge is None:
        return {}
    return {SECOND: held_out.win_rate(second_judge, SECOND, number, "measure")}


def placed(
    held_out: HeldOut, second_judge: SecondJudge, number: int, best: str, budget: Budget
) -> dict[str, Bet]:  # fmt: skip
    """The second judge's bets on a version, against the base and the best so far; nothing where there is none."""
    if second_judge is None:
        return {}
    betting, _ = halves(held_out.prompts, held_out.versions.seed)
    found: dict[str, Bet] = {}
    for other, level in zip(dict.fromkeys((BASE, best)), budget.levels(best != BASE), strict=False):
        against = version_number(other)
        some = betting if against else None
        comparisons = held_out.compared(second_judge, SECOND, number, "measure", against, some)
        found[other] = bet(comparisons, betting, held_out.videos_per_prompt, level)
    return found


def reported(held_out: HeldOut, second_judge: SecondJudge, number: int) -> dict[str, float | int]:
    """The win rate over the base on the prompts that do not bet."""
    if second_judge is None:
        return {}
    ids = {prompt.id for prompt in halves(held_out.prompts, held_out.versions.seed)[1]}
    comparisons = held_out.compared(second_judge, SECOND, number, "measure")
    return win_rate([one for one in comparisons if one.prompt_id in ids], len(ids) * held_out.videos_per_prompt)


def drifted(held_out: HeldOut, number: int) -> dict[str, Any]:
    """What changed in the videos against the base's (see :func:`evaluation.drift.drift`), with the paths of those that
    moved most, relative to the run; nothing where no video can be compared.
    """
    pairs = [
        Pair(prompt_id=new.prompt_id, base=old.video_path, current=new.video_path)
        for new, old in held_out.beside(number)
    ]
    if not pairs:
        return {}
    found, root = drift(pairs), held_out.versions.directory.root

    def inside(moved: Moved) -> Moved:
        base, current = (Path(path).relative_to(root).as_posix() for path in (moved.base, moved.current))
        return replace(moved, base=base, current=current)

    changes = tuple(replace(change, moved=tuple(map(inside, change.moved))) for change in found.changes)
    return replace(found, changes=changes).to_json()
