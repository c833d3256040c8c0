"""A run's hours on 1 to 64 GPUs, by a simulation of the loop's queues: ``python -m benchmarks.scale``.

What one GPU would take is ``--plan``'s. Here the phases are cut as the loop cuts them: shards of videos and of prompts
are dealt out like cards, each worker does its own one after another, and a phase ends with its slowest worker; a step
of alignment, on the first machine, ends with all, and waits for the sum of their gradients. Answers differ in length.
Beside it stand what a queue would take, from which whoever is free takes the next shard, and the same without chance.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table

from pipelines.loop.config import RunConfig, parse
from pipelines.loop.costs import setting
from pipelines.loop.plan import counted
from pipelines.loop.rates import Card, GeneratorSize, cards, generator_size, judge_size
from pipelines.loop.refresh_counts import own_pairs
from videoduet.config import PACKAGE_ROOT
from videoduet.progress import console

BATCHES_PER_SHARD, PROMPTS_PER_SHARD = 4, 8
"""As ``generators.sampling`` and ``pipelines.loop.rank`` cut, whose libraries are not needed here."""
STARTING = 45.0
"""Seconds until a worker begins: 22 to import, 5 to 15 for a model, 15 to find and record kernels (H100)."""
SPREAD = 0.3
"""Of a prompt's answers: standard deviation of the time that they take, over its mean. Assumed."""
MACHINE, LINK = 8, 200e9
"""GPUs of a machine, and bytes a second that a sum of gradients moves inside it. Assumed."""


@dataclass(frozen=True)
class Work:
    """What a run's phases do, over all rounds: seconds on one GPU of one video, showing and draw, and how many; and of
    all GRPO, with the shares of prompts and of showings that a refresh labels shared out.
    """

    config: RunConfig
    size: GeneratorSize
    video: float
    showing: float
    draw: float
    prompts: int
    held_out: int
    draws: int
    refreshes: int
    labelled: int
    alone: float
    grpo: float

    @classmethod
    def of(cls, config: RunConfig, card: Card, held_out: int) -> "Work":
        """By the rates of ``card``."""
        size, judge = generator_size(config.generator.path), judge_size(config.judge.path or "")
        prompts = config.prompts.limit
        assert size is not None and judge is not None and prompts is not None
        parts = counted(config, prompts, held_out, own_pairs(config)[0])
        hours = setting(config, parts, size, judge, card).hours
        # Policy and reference on both sides of a pair, and a backward: 8 passes a draw.
        draws, showing = parts["denoiser forwards (alignment)"] // 8, hours["rank"] * 3600 / parts["rank rollouts"]
        # The gate's pairs, and the audit's, are one process's.
        refresh, asked = config.refresh, parts["refresh rollouts"] + parts["refreshed audit rollouts"]
        refreshes = 0 if refresh.why_off(config.judge) is not None else config.rounds - 1
        labelled = round(prompts * (1 - refresh.held_out_prompts)) if refresh.labels == "paper" else 0
        shared = 2 * labelled * math.comb(config.generator.videos_per_prompt, 2) * refreshes
        return cls(
            config, size, hours["sample"] * 3600 / parts["videos of rounds"], showing, hours["align"] * 3600 / draws,
            prompts, held_out, draws, refreshes, labelled, (asked - shared) * showing,
            hours["refresh"] * 3600 - asked * showing,
        )  # fmt: skip


def settled(videos: int) -> int:
    """Comparisons that settle best and worst of so many videos, by ``benchmarks.adaptive``: 16 of 45 for ten."""
    return min(math.comb(videos, 2), math.ceil(1.5 * videos) + 1)


def dealt(shards: Sequence[float], workers: int) -> float:
    """When the last of ``workers`` ends that are dealt ``shards`` like cards, as the loop deals them."""
    return max(sum(shards[worker::workers]) for worker in range(workers))


def queued(shards: Sequence[float], workers: int) -> float:
    """When the last of ``workers`` ends where whoever is free takes the next shard."""
    free = [0.0] * workers
    for seconds in shards:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def shards_of_videos(work: Work, videos: int) -> list[float]:
    """Seconds of each shard of ``videos``."""
    each = work.config.generator.batch_size * BATCHES_PER_SHARD
    return [min(each, videos - start) * work.video for start in range(0, videos, each)]


def shards_of_prompts(work: Work, prompts: int, rng: np.random.Generator | None, share: float) -> list[float]:
    """Seconds of each shard of prompts to compare; with ``rng`` answers differ in length. ``share`` of all pairs."""
    each = 2 * share * math.comb(work.config.generator.videos_per_prompt, 2) * work.showing
    sigma = math.sqrt(math.log(1 + SPREAD**2))
    factors = np.ones(prompts) if rng is None else rng.lognormal(-(sigma**2) / 2, sigma, prompts)
    return [
        float(each * factors[start : start + PROMPTS_PER_SHARD].sum()) for start in range(0, prompts, PROMPTS_PER_SHARD)
    ]


def step_of_alignment(work: Work, workers: int) -> float:
    """Seconds of an optimizer step: the most draws that one worker has, and the sum of the LoRA's float32 gradients."""
    workers = min(workers, MACHINE)
    moved = 2 * 4.0 * work.size.lora(work.config.align.lora_rank) * (workers - 1) / workers
    return math.ceil(work.config.align.batch_size / workers) * work.draw + moved / LINK


def simulated(
    work: Work, workers: int, *, share: float = 1.0, queue: bool = False, seed: int | None = 0
) -> dict[str, float]:
    """Hours of each phase of the whole run on ``workers`` GPUs. ``seed`` None: answers of one length."""
    config, end = work.config, queued if queue else dealt
    rng = None if seed is None else np.random.default_rng(seed)
    seconds: dict[str, float] = dict.fromkeys(("sample", "refresh", "rank", "align"), 0.0)
    steps = math.ceil(work.draws / config.rounds / config.align.batch_size)
    for _ in range(config.rounds):
        videos = work.prompts * config.generator.videos_per_prompt
        seconds["sample"] += STARTING + end(shards_of_videos(work, videos), workers)
        seconds["rank"] += STARTING + end(shards_of_prompts(work, work.prompts, rng, share), workers)
        seconds["align"] += STARTING + steps * step_of_alignment(work, workers)
    for _ in range(work.refreshes):
        # Labels by all; GRPO by the first machine; the gate's few pairs by one process.
        seconds["refresh"] += 2 * STARTING + end(shards_of_prompts(work, work.labelled, rng, share), workers)
    seconds["refresh"] += work.grpo / min(workers, MACHINE) + work.alone
    scored = work.held_out * config.score.videos_per_prompt
    drawn = end(shards_of_videos(work, scored), workers) * (config.rounds + 1)
    # With what is measured after each round. One process compares, as there are few.
    parts = counted(config, work.prompts, work.held_out)
    asked = (parts["measure rollouts"] + parts["score rollouts"]) * work.showing
    seconds["score"] = STARTING * (config.rounds + 1) + drawn + asked
    return {name: value / 3600 for name, value in seconds.items()}


def by_workers(work: Work, workers: Sequence[int], share: float, title: str) -> Table:
    """Hours of each phase on each number of GPUs, against answers of one length and a queue."""
    table = Table(title=title, padding=0)
    for column in ("GPUs", "sample", "refresh", "rank", "align", "score", "hours", "×", "even", "queue"):
        table.add_column(column, justify="right")
    one = sum(simulated(work, 1, share=share).values())
    for count in workers:
        found = simulated(work, count, share=share)
        total = sum(found.values())
        even = sum(simulated(work, count, share=share, seed=None).values())
        queue = sum(simulated(work, count, share=share, queue=True).values())
        cells = (*found.values(), total, one / total, even, queue)
        table.add_row(str(count), *(f"{cell:,.2f}" if cell < 10 else f"{cell:,.1f}" for cell in cells))
    return table


def by_videos(config: RunConfig, card: Card, held_out: int, numbers: Sequence[int]) -> Table:
    """GPU hours of a round with N videos a prompt: drawing, all comparisons, those of an adaptive tournament."""
    table = Table(title=f"GPU hours a round by N, {config.prompts.limit:,} prompts, {card.name}")
    for column in ("N", "comparisons a prompt", "sample", "rank", "rank over sample", "adaptive", "rank, adaptive"):
        table.add_column(column, justify="right")
    for number in numbers:
        drawn, refresh = replace(config.generator, videos_per_prompt=number), replace(config.refresh, enabled=False)
        changed = replace(config, rounds=1, generator=drawn, refresh=refresh)
        work = Work.of(changed, card, held_out)
        sample = work.prompts * number * work.video / 3600
        full, least = math.comb(number, 2), settled(number)
        rank, adaptive = (2 * work.prompts * count * work.showing / 3600 for count in (full, least))
        table.add_row(
            str(number),
            str(full),
            f"{sample:.1f}",
            f"{rank:.1f}",
            f"{rank / sample:.1f}",
            str(least),
            f"{adaptive:.1f}",
        )
    return table


def main(
    configs: list[str] | None = None, card: str = "h100", workers: list[int] | None = None, held_out: int = 944
) -> None:
    """Print the tables of docs/scale.md.

    Args:
        configs: Recipes, one over the other (None: the paper's setting on T2V-Turbo).
        card: What every worker is, as configs/rates.yaml has it.
        workers: Numbers of GPUs.
        held_out: Held-out prompts.
    """
    files = configs or [str(PACKAGE_ROOT / "configs" / name) for name in ("vidprom.yaml", "generators/t2v_turbo.yaml")]
    config, _ = parse([part for file in files for part in ("--config", file)])
    found = next(each for each in cards() if each.name == card)
    work = Work.of(config, found, config.prompts.held_out_limit or held_out)
    shape = f"{work.prompts:,} × {config.generator.videos_per_prompt}, {config.rounds} rounds"
    named = f"{Path(config.generator.path).name}, {shape}"
    counts = workers or [1, 2, 4, 8, 16, 32, 64]
    console.print(by_workers(work, counts, 1.0, f"{named}, {card}"))
    number = config.generator.videos_per_prompt
    share = settled(number) / math.comb(number, 2)
    console.print(by_workers(work, counts, share, f"{named}, {card}, adaptive judging"))
    console.print(by_videos(config, found, work.held_out, [2, 4, 6, 10, 16, 32]))


if __name__ == "__main__":
    CLI(main, as_positional=False)
