"""Judge a round's videos against each other, and take pairs from the ranking."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from alignment.preferences.pairs import PairConfig, follows_position, select_pairs
from alignment.preferences.ranking import judge_statistics, rank_prompts
from pipelines.loop.summaries import RankSummary, write_summary
from reward_model.judging.base import PairwiseJudge
from videoduet.machines import ALONE, Machine
from videoduet.processes import processes
from videoduet.progress import track
from videoduet.records import Comparison, PreferencePair, Prompt, Sample, Video, VideoPair
from videoduet.store import read_records, write_records
from videoduet.workspace import Workspace

PROMPTS_PER_SHARD = 8


def rank_round(
    load_judge: Callable[[], PairwiseJudge], prompts: Sequence[Prompt], samples: Sequence[Sample], output: Path,
    directory: Workspace, *, config: PairConfig, round_number: int, machine: Machine = ALONE,
) -> None:  # fmt: skip
    """Compare all C(N,2) videos of each prompt in both orders: this machine's part. The first machine waits for the
    others', and makes winners and losers preference pairs.
    """
    videos, what, (first, step) = _by_prompt(samples), f"round {round_number}: rank", machine.part()
    starts = range(0, len(prompts), PROMPTS_PER_SHARD)
    shards = [
        (output / f"comparisons_{number:05d}.parquet", prompts[start : start + PROMPTS_PER_SHARD])
        for number, start in enumerate(starts)
    ]
    mine = shards[first::step]
    total = sum(math.comb(len(videos.get(prompt.id, ())), 2) for _, shard in mine for prompt in shard)
    judged = _compare(load_judge, mine, videos)
    for _ in track(judged, what, total=total, advance=int):
        pass
    processes().wait_for_everyone()
    if machine.finishes:
        machine.wait_for([path for path, _ in shards], what)
        comparisons = read_records(Comparison, *sorted(output.glob("comparisons_*.parquet")))
        summary, pairs = selected(comparisons, {sample.id: round_number for sample in samples}, config)
        write_records(output / "pairs.parquet", pairs, PreferencePair)
        write_summary(output, summary)
        directory.finish(output, comparisons=len(comparisons), pairs=len(pairs))


def _by_prompt(samples: Sequence[Sample]) -> dict[str, list[Video]]:
    videos: dict[str, list[Video]] = {}
    for sample in samples:
        videos.setdefault(sample.prompt_id, []).append(sample.video)
    return videos


def pairs_of(prompts: Sequence[Prompt], videos: Mapping[str, Sequence[Video]]) -> list[VideoPair]:
    """All C(N,2) pairs of each prompt's videos."""
    return [
        VideoPair(prompt=prompt, first=first, second=second)
        for prompt in prompts
        for first, second in itertools.combinations(videos.get(prompt.id, ()), 2)
    ]


def _compare(
    load_judge: Callable[[], PairwiseJudge],
    shards: Sequence[tuple[Path, Sequence[Prompt]]],
    videos: Mapping[str, Sequence[Video]],
) -> Iterator[int]:
    """Judge shard by shard, yielding how many pairs are done; whole shards on disk are not judged again."""
    judge = None
    for path, shard in shards:
        pairs = pairs_of(shard, videos)
        if path.exists():
            yield len(pairs)
            continue
        judge = judge or load_judge()
        comparisons = []
        for comparison in judge.compare(pairs):
            comparisons.append(comparison)
            yield 1
        write_records(path, comparisons, Comparison)


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
    return RankSummary(**statistics, pairs=len(pairs), skipped=skipped), pairs
