"""Judge a round's videos against each other, and take pairs from the ranking."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alignment.preferences.pairs import PairConfig, follows_position, select_pairs
from alignment.preferences.ranking import judge_statistics, rank_prompts
from pipelines.loop.summaries import RankSummary, write_summary
from pipelines.loop.tournament import Known, play, played
from reward_model.judging.base import PairwiseJudge
from reward_model.judging.first_pass import FirstPassJudge
from videoduet.errors import InputError
from videoduet.machines import ALONE, Machine
from videoduet.records import Comparison, PreferencePair, Prompt, Sample
from videoduet.store import read_json, write_json, write_records
from videoduet.workspace import Workspace


def rank_round(
    load_judge: Callable[[], PairwiseJudge], prompts: Sequence[Prompt], samples: Sequence[Sample], output: Path,
    directory: Workspace, *, config: PairConfig, round_number: int, known: Known = tuple, machine: Machine = ALONE,
) -> None:  # fmt: skip
    """Compare all C(N,2) videos of each prompt in both orders; winners and losers become preference pairs.

    ``known`` gives comparisons that the same judge made already, which are not paid for again. Machines share out the
    comparing; the first makes pairs.
    """
    play(load_judge, prompts, samples, output, f"round {round_number}: rank", known, machine)
    if machine.finishes:
        comparisons = played(output)
        summary, pairs = selected(comparisons, {sample.id: round_number for sample in samples}, config)
        write_records(output / "pairs.parquet", pairs, PreferencePair)
        write_summary(output, summary)
        directory.finish(output, comparisons=len(comparisons), pairs=len(pairs))


def keep_to_first(judge: FirstPassJudge, output: Path) -> None:
    """Write down who goes first in a ranking. Raises InputError where another has told some of its pairs."""
    file, name = output / "first_pass.json", judge.scorer.judge_id
    if file.exists() and (kept := read_json(file)["judge_id"]) != name:
        raise InputError(
            f"{output} was begun with another judge.first_pass ({kept[:12]}, and it is {name[:12]}): its weights were "
            "changed; put them back, or start a sibling run with --from rank."
        )
    write_json(file, {"judge_id": name})


def selected(
    comparisons: Sequence[Comparison], rounds: Mapping[str, int], config: PairConfig
) -> tuple[RankSummary, list[PreferencePair]]:
    """What a round's comparisons come to, and the pairs; ``rounds[video id]`` says when a video was sampled."""
    statistics = judge_statistics(comparisons)
    skipped: str | None = None
    pairs: list[PreferencePair] = []
    if follows_position(statistics):
        rate = statistics["first_position_rate"]
        skipped = (
            f"The judge follows position (the video shown first won {rate:.0%} of showings), so it gives no pairs."
        )
    else:
        pairs = select_pairs(rank_prompts(comparisons), comparisons, rounds, config)
        if not pairs:
            skipped = "The judge decided for no pair of videos in both orders, so there is nothing to learn from."
    judges = dict(sorted(Counter(comparison.judge_id for comparison in comparisons).items()))
    told = judges if len(judges) > 1 else {}
    return RankSummary(**statistics, pairs=len(pairs), skipped=skipped, judges=told), pairs
