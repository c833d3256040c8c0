"""Measure every generator version after the last round."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from generators.base import Generator
from generators.config import Speed
from generators.drawing import draw_items
from generators.sampling import SamplingItem
from pipelines.loop.config import ScoreConfig
from pipelines.loop.summaries import ScoreSummary, write_summary
from pipelines.loop.vbench import score_vbench, stop_if_still
from reward_model.judging.base import PairwiseJudge
from videoduet.intervals import wilson_interval
from videoduet.processes import processes
from videoduet.progress import track
from videoduet.records import Comparison, Prompt, Sample, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_records
from videoduet.workspace import Workspace

Samples = Callable[[str], list[Sample]]
"""The readable held-out samples of a generator version."""


def score_versions(
    load_generator: Callable[[int], Generator], judges: Callable[[], Iterator[tuple[str, PairwiseJudge]]],
    prompts: Sequence[Prompt], samples: Samples, output: Path, directory: Workspace, *, config: ScoreConfig, seed: int,
    rounds: int, batch_size: int, speed: Speed,
) -> None:  # fmt: skip
    """Held-out prompts drawn by the base and each G_r from the same noise, compared by several judges.

    ``judges`` gives them by name, one at a time.
    """
    items = [
        SamplingItem(prompt, index, seed_for(seed, "score", prompt.id, index))
        for prompt in prompts
        for index in range(config.videos_per_prompt)
    ]
    versions = [f"G_{number}" for number in range(rounds + 1)]
    notes: list[str] = []
    for number, version in enumerate(versions):
        notes += draw_items(
            load_generator(number), items, output, directory.root, version=version, round_number=number,
            batch_size=batch_size, speed=speed, what=f"score: sample {version}",
        )  # fmt: skip
    if processes().is_main_process:
        base, later = samples(versions[0]), versions[1:]
        # All that are unreadable are in quarantine before anybody judges.
        drawn = {version: samples(version) for version in later}
        win_rate = {
            name: {
                version: _win_rate(_compared(judge, (name, version), drawn[version], base, prompts, output), len(items))
                for version in later
            }
            for name, judge in judges()
        }
        vbench = score_vbench({versions[0]: base, **drawn}, prompts, output, config.vbench, directory.root)
        write_summary(
            output, ScoreSummary(versions=versions, win_rate=win_rate, vbench=vbench, notes=list(dict.fromkeys(notes)))
        )
        stop_if_still(vbench, config.vbench, directory.root)
        directory.finish(output, samples=len(items) * len(versions))


def _compared(
    judge: PairwiseJudge, named: tuple[str, str], drawn: Sequence[Sample], base: Sequence[Sample],
    prompts: Sequence[Prompt], output: Path,
) -> list[Comparison]:  # fmt: skip
    """What a judge says of a version's videos (first) against the base's from the same noise; ``named`` is the judge's
    and the version's name. Kept, and not asked again.
    """
    path = output / f"comparisons_{'_'.join(named)}.parquet"
    if not path.exists():
        texts = {prompt.id: prompt for prompt in prompts}
        before = {(sample.prompt_id, sample.index): sample for sample in base}
        sides = [(new, before.get((new.prompt_id, new.index))) for new in drawn]
        pairs = [
            VideoPair(prompt=texts[new.prompt_id], first=new.video, second=old.video)
            for new, old in sides
            if old is not None and new.id != old.id
        ]
        results = list(track(judge.compare(pairs), f"score: {' on '.join(named)}", total=len(pairs)))
        write_records(path, results, Comparison)
    return read_records(Comparison, path)


def _win_rate(comparisons: Sequence[Comparison], total: int) -> dict[str, float | int]:
    """Win rate of the first videos among ``total`` cases, with its 95 % interval; an abstention counts ½."""
    won = sum(c.preferred_id == c.first_id for c in comparisons)
    lost = sum(c.preferred_id == c.second_id for c in comparisons)
    rate = (won + 0.5 * (total - won - lost)) / total
    low, high = wilson_interval(rate, total)
    return {"rate": rate, "low": low, "high": high, "decided": won + lost, "total": total}
