"""All C(N,2) comparisons of each prompt's videos, shard by shard: what a ranking is made from."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from reward_model.judging.base import PairwiseJudge
from videoduet.machines import ALONE, Machine
from videoduet.processes import processes
from videoduet.progress import track
from videoduet.records import Comparison, Prompt, Sample, Video, VideoPair
from videoduet.store import read_records, write_records

PROMPTS_PER_SHARD = 8

Known = Callable[[], Sequence[Comparison]]
"""Gives comparisons by the same judge that were paid for elsewhere."""


def play(
    load_judge: Callable[[], PairwiseJudge], prompts: Sequence[Prompt], samples: Sequence[Sample], output: Path,
    title: str, known: Known = tuple, machine: Machine = ALONE,
) -> None:  # fmt: skip
    """Compare all videos of each prompt in both orders; ``comparisons_*.parquet`` in ``output`` keep what was said.

    What is ``known`` is taken over, and not asked again. Each process of each ``machine`` does its share of the shards,
    and waits for the others of its own; the first machine also for all others.
    """
    videos, (first, step) = _by_prompt(samples), machine.part()
    starts = range(0, len(prompts), PROMPTS_PER_SHARD)
    shards = [
        (output / f"comparisons_{number:05d}.parquet", prompts[start : start + PROMPTS_PER_SHARD])
        for number, start in enumerate(starts)
    ]
    mine = shards[first::step]
    total = sum(math.comb(len(videos.get(prompt.id, ())), 2) for _, shard in mine for prompt in shard)
    for _ in track(_compared(load_judge, mine, videos, known), title, total=total, advance=int):
        pass
    processes().wait_for_everyone()
    if machine.finishes:
        machine.wait_for([path for path, _ in shards], title)


def played(output: Path) -> list[Comparison]:
    """What :func:`play` has kept in ``output``; nothing where it never played."""
    return read_records(Comparison, *sorted(output.glob("comparisons_*.parquet")))


def pairs_of(prompts: Sequence[Prompt], videos: Mapping[str, Sequence[Video]]) -> list[VideoPair]:
    """All C(N,2) pairs of each prompt's videos."""
    return [
        VideoPair(prompt=prompt, first=first, second=second)
        for prompt in prompts
        for first, second in itertools.combinations(videos.get(prompt.id, ()), 2)
    ]


def _by_prompt(samples: Sequence[Sample]) -> dict[str, list[Video]]:
    videos: dict[str, list[Video]] = {}
    for sample in samples:
        videos.setdefault(sample.prompt_id, []).append(sample.video)
    return videos


def _compared(
    load_judge: Callable[[], PairwiseJudge],
    shards: Sequence[tuple[Path, Sequence[Prompt]]],
    videos: Mapping[str, Sequence[Video]],
    known: Known,
) -> Iterator[int]:
    """Judge shard by shard, yielding how many pairs are done; whole shards on disk are not judged again."""
    judge, paid = None, None
    for path, shard in shards:
        pairs = pairs_of(shard, videos)
        if path.exists():
            yield len(pairs)
            continue
        if paid is None:
            paid = {(c.prompt_id, c.first_id, c.second_id): c for c in known()}
        asked = [pair for pair in pairs if (pair.prompt.id, pair.first.id, pair.second.id) not in paid]
        taken = [pair for pair in pairs if (pair.prompt.id, pair.first.id, pair.second.id) in paid]
        comparisons = [paid[pair.prompt.id, pair.first.id, pair.second.id] for pair in taken]
        if taken:
            yield len(taken)
        if asked:
            judge = judge or load_judge()
            for comparison in judge.compare(asked):
                comparisons.append(comparison)
                yield 1
        write_records(path, comparisons, Comparison)
