"""Measure a round's new generator on held-out prompts: by a judge that never labels, and by what else changed.

What is measured is a list of calls in :func:`measured`; one more is a line there and a field of
:class:`pipelines.loop.summaries.MeasureSummary`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.drift import Moved, Pair, drift
from pipelines.loop.held_out import HeldOut, version_name
from pipelines.loop.summaries import MeasureSummary, write_summary
from reward_model.judging.base import PairwiseJudge

SecondJudge = Callable[[], PairwiseJudge] | None
"""Loads it; None where the config names none."""
NO_JUDGE = "No second judge, which never labels, is named (judge.second_path)."


def measure_round(held_out: HeldOut, second_judge: SecondJudge, output: Path, *, round_number: int) -> None:
    """Draw the held-out videos of G_(r + 1), and before it those of the base, and measure the one against the other.

    Machines share out the drawing; the first measures.
    """
    number = round_number + 1
    base = [0] if held_out.missing([0]) else []
    notes = held_out.draw([*base, number], "held-out prompts: sample")
    if held_out.versions.machine.finishes:
        write_summary(output, measured(held_out, second_judge, number, notes))
        held_out.versions.directory.finish(output, samples=len(held_out.items))


def measured(held_out: HeldOut, second_judge: SecondJudge, number: int, notes: list[str]) -> MeasureSummary:
    """All that is measured of a version whose videos are drawn: each thing is a call here."""
    return MeasureSummary(
        version=version_name(number),
        notes=notes,
        win_rate=second_opinion(held_out, second_judge, number),
        reason=NO_JUDGE if second_judge is None else None,
        drift=drifted(held_out, number),
    )


def second_opinion(held_out: HeldOut, second_judge: SecondJudge, number: int) -> dict[str, dict[str, float | int]]:
    """The win rate over the base by the second judge, under its name; nothing where there is none."""
    if second_judge is None:
        return {}
    return {"second_judge": held_out.win_rate(second_judge, "second_judge", number, "measure")}


def drifted(held_out: HeldOut, number: int) -> dict[str, Any]:
    """What changed in the videos against the base's (see :func:`evaluation.drift.drift`), with the paths of those that
    moved most, relative to the run; nothing where no video can be compared.
    """
    pairs = [
        Pair(prompt_id=new.prompt_id, base=old.video_path, current=new.video_path)
        for new, old in held_out.beside_base(number)
    ]
    if not pairs:
        return {}
    found, root = drift(pairs), held_out.versions.directory.root

    def inside(moved: Moved) -> Moved:
        base, current = (Path(path).relative_to(root).as_posix() for path in (moved.base, moved.current))
        return replace(moved, base=base, current=current)

    changes = tuple(replace(change, moved=tuple(map(inside, change.moved))) for change in found.changes)
    return replace(found, changes=changes).to_json()
