"""Score all generator versions after the last round: what needs all of them together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from pipelines.loop.held_out import HeldOut, version_name
from pipelines.loop.official import draw_official, score_official
from pipelines.loop.score_config import VBenchConfig
from pipelines.loop.summaries import MeasureSummary, ScoreSummary, write_summary
from pipelines.loop.vbench import score_vbench, stop_if_still
from reward_model.judging.base import PairwiseJudge
from videoduet.processes import processes


def score_versions(
    held_out: HeldOut, judges: Callable[[], Iterator[tuple[str, Callable[[], PairwiseJudge]]]],
    measured: Mapping[int, MeasureSummary], output: Path, *, vbench: VBenchConfig, rounds: int,
) -> None:  # fmt: skip
    """Compare each G_r with the base by several judges, and score what VBench is asked for.

    ``judges`` gives what loads them, by name. What the rounds ``measured``, by the version's number, is taken from
    them; what they did not, as in a run that is older than that, is done here.
    """
    versions, notes = range(rounds + 1), _drawn(held_out, measured, rounds)
    official = vbench.versions(rounds) if vbench.suite == "official" else []
    if official:
        notes += draw_official(held_out.versions, official, output / "official", vbench)
    if processes().is_main_process:
        directory = held_out.versions.directory
        # All that are unreadable are in quarantine before anybody judges.
        drawn = {version_name(number): held_out.samples(version_name(number)) for number in versions}
        win_rate = {name: _win_rates(held_out, name, cache(judge), versions[1:]) for name, judge in judges()}
        if official:
            found = score_official(official, output / "official", vbench, directory.root)
        else:
            found = score_vbench(drawn, held_out.prompts, output, vbench, directory.root)
        summary = ScoreSummary(
            versions=list(drawn), win_rate=win_rate, vbench=found, notes=list(dict.fromkeys(notes)),
            measured=[version_name(number) for number in sorted(measured)],
        )  # fmt: skip
        write_summary(output, summary)
        stop_if_still(found, vbench, directory.root)
        directory.finish(output, samples=len(held_out.items) * len(versions))


def _drawn(held_out: HeldOut, measured: Mapping[int, MeasureSummary], rounds: int) -> list[str]:
    """Notes about the prompts, once all versions have drawn them."""
    missing = held_out.missing(range(rounds + 1))
    # A version that nobody measured is drawn, whole or not: that tells what its text encoder does not read.
    unmeasured = [number for number in range(1, rounds + 1) if number not in measured]
    notes = [note for summary in measured.values() for note in summary.notes]
    return notes + held_out.draw(sorted({*missing, *unmeasured}), "score: sample")


def _win_rates(
    held_out: HeldOut, name: str, judge: Callable[[], PairwiseJudge], numbers: Sequence[int]
) -> dict[str, dict[str, float | int]]:
    """A judge's win rates over the base by version; it is loaded where there is something to ask it."""
    return {version_name(number): held_out.win_rate(judge, name, number, "score") for number in numbers}
