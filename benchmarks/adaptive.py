"""What adaptive tournaments cost and lose: ``python -m benchmarks.adaptive [--prompts 32] [--videos 10]``.

The tiny judge compares all C(N,2) pairs of the base generator's own samples; the adaptive tournament is then replayed
on those answers, so that both see the same judge. Told: comparisons asked, how often best and worst are the full
tournament's, and how often the preference pair is.
"""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from jsonargparse import CLI

from alignment.preferences.pairs import PairConfig, select_pairs
from alignment.preferences.ranking import rank_prompts
from alignment.preferences.tournament import adaptive_comparisons
from generators.loading import load_generator
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.config import parse
from reward_model import Judge
from videoduet.config import resolve
from videoduet.progress import console, track
from videoduet.records import Comparison, PreferencePair, Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.tables import read_lines


class Recorded:
    """A judge that gives the answers that were given before."""

    def __init__(self, comparisons: Iterable[Comparison]):
        self.answers = {(c.prompt_id, frozenset((c.first_id, c.second_id))): c for c in comparisons}

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """The comparison that was made of each pair, in either order."""
        for pair in pairs:
            yield self.answers[pair.prompt.id, frozenset((pair.first.id, pair.second.id))]


def chosen(comparisons: list[Comparison], videos: dict[str, list[Video]]) -> dict[str, PreferencePair]:
    """The preference pair of each prompt that has one."""
    rounds = {video.id: 0 for group in videos.values() for video in group}
    return {pair.prompt_id: pair for pair in select_pairs(rank_prompts(comparisons), comparisons, rounds, PairConfig())}


def main(prompts: int = 32, videos: int = 10) -> None:
    """Compare both ways.

    Args:
        prompts: Held-out prompts.
        videos: Samples of each.
    """
    config, _ = parse([])
    texts = read_lines(resolve(config.prompts.held_out))[:prompts]
    generator = load_generator(resolve(config.generator.path), sampler=config.generator.sampler)
    items = [SamplingItem(Prompt.of(text), i, seed_for("adaptive", text, i)) for text in texts for i in range(videos)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for _ in sample_videos(generator, items, root, root=root, version="G_0", round_number=0, batch_size=16):
            pass
        groups: dict[str, list[Video]] = {Prompt.of(text).id: [] for text in texts}
        for sample in read_samples(root, root=root):
            groups[sample.prompt_id].append(sample.video)
        named = {Prompt.of(text).id: Prompt.of(text) for text in texts}
        pairs = [
            VideoPair(prompt=named[prompt_id], first=first, second=second)
            for prompt_id, group in groups.items()
            for first, second in itertools.combinations(group, 2)
        ]
        judge = Judge.from_pretrained(resolve(config.judge.path), batch_size=config.judge.batch_size)
        full = list(track(judge.compare(pairs), "all pairs", total=len(pairs)))
    few = list(adaptive_comparisons(Recorded(full), named, groups))
    report(full, few, chosen(full, groups), chosen(few, groups), len(texts))


def report(
    full: list[Comparison], few: list[Comparison], whole: dict[str, PreferencePair], found: dict[str, PreferencePair],
    prompts: int,
) -> None:  # fmt: skip
    """Print what the adaptive tournament asked, and how often it ends as the full one does."""
    both = [(whole[prompt_id], found[prompt_id]) for prompt_id in whole if prompt_id in found]
    same = {
        "best": sum(one.chosen_id == other.chosen_id for one, other in both),
        "worst": sum(one.rejected_id == other.rejected_id for one, other in both),
        "pair": sum((one.chosen_id, one.rejected_id) == (other.chosen_id, other.rejected_id) for one, other in both),
    }
    opposed = sum((one.chosen_id, one.rejected_id) == (other.rejected_id, other.chosen_id) for one, other in both)
    console.print(f"comparisons: {len(full)} of all pairs, {len(few)} adaptive ({len(few) / len(full):.0%})")
    console.print(f"prompts with a pair: {len(whole)} and {len(found)} of {prompts}, {len(both)} with both")
    for name, count in same.items():
        console.print(f"the same {name}: {count} of {len(both)}")
    console.print(f"the opposite pair: {opposed}")


if __name__ == "__main__":
    CLI(main, as_positional=False)
