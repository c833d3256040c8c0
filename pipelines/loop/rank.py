"""Judge a round's videos against each other: ``python -m pipelines.rank --run_dir RUN --round R``."""

import itertools

from alignment.preferences.pairs import follows_position, select_pairs
from alignment.preferences.ranking import judge_statistics, rank_prompts
from generators.sampling import read_samples
from pipelines.loop.phase import phase_main
from pipelines.loop.run import Run
from videoduet.progress import track
from videoduet.records import Comparison, PreferencePair, Prompt, Video, VideoPair
from videoduet.store import read_json, read_records, write_json, write_records

PROMPTS_PER_SHARD = 8


def rank(run: Run, round: int) -> None:
    """D_round compares all C(N,2) videos of each prompt in both orders; winners and losers become preference pairs."""
    output, state = run.directory.phase("rank", round), run.processes
    videos: dict[str, list[Video]] = {prompt.id: [] for prompt in run.prompts}
    samples = read_samples(run.directory.phase("sample", round))
    readable = {video.id for video in run.readable(sample.video for sample in samples)}
    for sample in samples:
        if sample.id in readable:
            videos[sample.prompt_id].append(sample.video)
    prompts = labelled_prompts(run, round)
    starts = range(0, len(prompts), PROMPTS_PER_SHARD)
    shards = [(start // PROMPTS_PER_SHARD, prompts[start : start + PROMPTS_PER_SHARD]) for start in starts]
    mine = [(output / f"comparisons_{number:05d}.parquet", shard) for number, shard in shards][
        state.process_index :: state.num_processes
    ]
    total = sum(len(videos[prompt.id]) * (len(videos[prompt.id]) - 1) // 2 for _, shard in mine for prompt in shard)
    for _ in track(_compare(run, round, mine, videos), f"round {round}: rank", total=total, advance=int):
        pass
    state.wait_for_everyone()
    if state.is_main_process:
        _select(run, round)


def labelled_prompts(run: Run, round: int) -> list[Prompt]:
    """The prompts that give DPO labels: all, or with cross-fitting the half that did not refresh this round's judge."""
    if run.config.refresh.cross_fit and round > 0:
        return run.prompts[(round + 1) % 2 :: 2]
    return run.prompts


def _compare(run: Run, round: int, shards: list, videos: dict[str, list[Video]]):
    """Judge shard by shard, yielding how many pairs are done; whole shards on disk are not judged again."""
    judge = None
    for path, shard in shards:
        pairs = [
            VideoPair(prompt=prompt, first=first, second=second)
            for prompt in shard
            for first, second in itertools.combinations(videos[prompt.id], 2)
        ]
        if path.exists():
            yield len(pairs)
            continue
        judge = judge or run.judge(round)
        comparisons = []
        for comparison in run.compare(judge, pairs):
            comparisons.append(comparison)
            yield 1
        write_records(path, comparisons, Comparison)


def _select(run: Run, round: int) -> None:
    output = run.directory.phase("rank", round)
    comparisons = read_records(Comparison, *sorted(output.glob("comparisons_*.parquet")))
    statistics = judge_statistics(comparisons)
    rounds = {sample.id: round for sample in read_samples(run.directory.phase("sample", round))}
    skipped, pairs = None, []
    if follows_position(statistics):
        rate = statistics["first_position_rate"]
        skipped = (
            f"The judge follows position (the video shown first won {rate:.0%} of showings), so it gives no pairs."
        )
    else:
        pairs = select_pairs(rank_prompts(comparisons), comparisons, rounds, run.config.pairs)
        if not pairs:
            skipped = "The judge decided for no pair of videos in both orders, so there is nothing to learn from."
    write_records(output / "pairs.parquet", pairs, PreferencePair)
    write_json(output / "summary.json", {**statistics, "pairs": len(pairs), "skipped": skipped})
    run.directory.finish(output, comparisons=len(comparisons), pairs=len(pairs))


def rank_summary(run: Run, round: int) -> dict:
    """What :func:`rank` found out."""
    return read_json(run.directory.phase("rank", round) / "summary.json")


if __name__ == "__main__":
    phase_main(rank, __doc__)
