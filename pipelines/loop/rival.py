"""What a run has to beat: picking the best of several videos of the base, by the judge that it learns from.

That needs no training, only more drawing. All of it is there after the first round: the base's videos, and what the
judge said of them. Of a prompt's N videos the best of the first N - 1 is taken and compared with the last one, from
which it was not picked: so it is the win rate over a fresh draw, as the aligned generator's is over the base.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment.preferences.ranking import order_by_standing, rank_prompts
from alignment.sequential import fewest_prompts
from pipelines.loop.held_out import win_rate
from reward_model.judging.base import PairwiseJudge
from videoduet.progress import track
from videoduet.records import Comparison, Prompt, Sample, VideoPair
from videoduet.store import read_records, write_records

FEWEST = 2
"""Videos to pick from."""


@dataclass(frozen=True)
class Rival:
    """The best of ``n`` videos of the base, first, beside one that it was not picked from: a pair for each prompt."""

    n: int
    pairs: Sequence[VideoPair]


def rival(
    prompts: Sequence[Prompt], samples: Sequence[Sample], comparisons: Sequence[Comparison], most: int
) -> Rival | None:
    """The rival of a run whose base drew ``samples`` that its judge compared, of ``most`` prompts; None where there are
    too few videos to pick from, or prompts to tell anything.
    """
    drawn: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        drawn.setdefault(sample.prompt_id, {})[sample.index] = sample
    last = max((sample.index for sample in samples), default=0)
    pairs = [
        pair
        for prompt, best in _picked(prompts, drawn, comparisons, last)
        if (pair := _pair(prompt, best, drawn, last))
    ]
    return Rival(last, pairs[:most]) if last >= FEWEST and len(pairs) >= fewest_prompts() else None


def _picked(
    prompts: Sequence[Prompt], drawn: Mapping[str, Mapping[int, Sample]], comparisons: Sequence[Comparison], last: int
) -> list[tuple[Prompt, str]]:
    """The best of each prompt's videos, without the last, by its id."""
    apart = {group[last].id for group in drawn.values() if last in group}
    ranked = rank_prompts(one for one in comparisons if not {one.first_id, one.second_id} & apart)
    return [
        (prompt, ranking.video_ids[order_by_standing(ranking)[0]])
        for prompt in prompts
        if (ranking := ranked.get(prompt.id)) is not None
    ]


def _pair(prompt: Prompt, best: str, drawn: Mapping[str, Mapping[int, Sample]], last: int) -> VideoPair | None:
    """The pair that is asked about; None where one of its videos cannot be read."""
    group = drawn.get(prompt.id, {})
    picked = next((sample for sample in group.values() if sample.id == best), None)
    if picked is None or last not in group:
        return None
    return VideoPair(prompt=prompt, first=picked.video, second=group[last].video)


def preferred(
    load: Callable[[], Rival | None], second_judge: Callable[[], PairwiseJudge] | None, output: Path
) -> dict[str, float | int]:
    """How often the second judge prefers the best of N videos of the base to another one, with N; what it says is kept
    in ``output``, and not asked again. Nothing where there is no judge, or no rival.
    """
    if second_judge is None or (found := load()) is None:
        return {}
    path = output / "comparisons_best_of.parquet"
    if not path.exists():
        title = f"measure: second_judge on the best of {found.n}"
        said = list(track(second_judge().compare(found.pairs), title, total=len(found.pairs)))
        write_records(path, said, Comparison)
    return {"n": found.n, **win_rate(read_records(Comparison, path), len(found.pairs))}
