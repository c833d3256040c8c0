"""Measure a round's new generator on held-out prompts: by a judge that never labels.

What is measured is a list of calls in :func:`measured`; one more is a line there and a field of
:class:`pipelines.loop.summaries.MeasureSummary`.
"""

from collections.abc import Callable
from pathlib import Path

from pipelines.loop.held_out import HeldOut, version_name
from pipelines.loop.summaries import MeasureSummary, write_summary
from reward_model.judging.base import PairwiseJudge
from videoduet.processes import processes

SecondJudge = Callable[[], PairwiseJudge] | None
"""Loads it; None where the config names none."""
NO_JUDGE = "No second judge, which never labels, is named (judge.second_path)."


def measure_round(held_out: HeldOut, second_judge: SecondJudge, output: Path, *, round_number: int) -> None:
    """Draw the held-out videos of G_(r + 1), and before it those of the base, and measure the one against the other."""
    number = round_number + 1
    base = [0] if held_out.missing([0]) else []
    notes = held_out.draw([*base, number], "held-out prompts: sample")
    if processes().is_main_process:
        write_summary(output, measured(held_out, second_judge, number, notes))
        held_out.versions.directory.finish(output, samples=len(held_out.items))


def measured(held_out: HeldOut, second_judge: SecondJudge, number: int, notes: list[str]) -> MeasureSummary:
    """All that is measured of a version whose videos are drawn: each thing is a call here."""
    return MeasureSummary(
        version=version_name(number),
        notes=notes,
        win_rate=second_opinion(held_out, second_judge, number),
        reason=NO_JUDGE if second_judge is None else None,
    )


def second_opinion(held_out: HeldOut, second_judge: SecondJudge, number: int) -> dict[str, dict[str, float | int]]:
    """The win rate over the base by the second judge, under its name; nothing where there is none."""
    if second_judge is None:
        return {}
    return {"second_judge": held_out.win_rate(second_judge, "second_judge", number, "measure")}
