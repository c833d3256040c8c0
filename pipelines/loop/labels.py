"""What a judge learns from in a round: labelled pairs of generated videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reward_model.judging.base import PairwiseJudge
from reward_model.training.refresh import best_by_knockout, labels_from
from videoduet.records import LabelledPair, PreferencePair, Prompt, Sample, Video, VideoPair

Videos = dict[str, dict[str, Video]]
"""By prompt id and video id."""


@dataclass(frozen=True)
class Generated:
    """The videos of a round and of the one before, and that one's preference pairs.

    Attributes:
        prompts: All training prompts.
        refreshing: Those whose videos refresh the judge.
        new: This round's readable videos.
        old: Those of the round before.
        pairs: The preference pairs of the round before.
    """

    prompts: Sequence[Prompt]
    refreshing: Sequence[Prompt]
    new: Videos
    old: Videos
    pairs: Sequence[PreferencePair]

    def version_pairs(self) -> list[VideoPair]:
        """Of each prompt two pairs of a new video (first) and an old one."""
        return [
            VideoPair(prompt=prompt, first=newer, second=older)
            for prompt in self.prompts
            for newer, older in _sides(self.new, self.old, prompt)[:2]
        ]


def _sides(new: Videos, old: Videos, prompt: Prompt) -> list[tuple[Video, Video]]:
    return list(zip(new.get(prompt.id, {}).values(), old.get(prompt.id, {}).values(), strict=False))


def by_prompt(samples: Sequence[Sample]) -> Videos:
    """The videos of some samples."""
    videos: Videos = {}
    for sample in samples:
        videos.setdefault(sample.prompt_id, {})[sample.id] = sample.video
    return videos


def generated_labels(generated: Generated, judge: PairwiseJudge, round_number: int) -> list[LabelledPair]:
    """Pairs of generated videos that ``judge``, D_(r - 1), decided in both orders.

    *across*: the best new video of a prompt, where it is preferred to the loser of the round before. *within*: pairs
    of one version, old (that round's preference pairs) and new (the knockout), so that telling versions apart earns
    nothing.
    """
    prompts = {prompt.id: prompt for prompt in generated.refreshing}
    pairs = [pair for pair in generated.pairs if pair.prompt_id in prompts]
    groups = {prompt_id: list(generated.new[prompt_id].values()) for prompt_id in prompts if prompt_id in generated.new}
    best, played = best_by_knockout(judge, prompts, groups)
    challenges = [
        VideoPair(prompt=prompts[prompt_id], first=best[prompt_id], second=generated.old[prompt_id][pair.rejected_id])
        for prompt_id, pair in _clearest(pairs).items()
        if prompt_id in best and pair.rejected_id in generated.old.get(prompt_id, {})
    ]
    both = (*generated.new.values(), *generated.old.values())
    videos = {video_id: video for group in both for video_id, video in group.items()}
    won = [c for c in judge.compare(challenges) if c.preferred_id == c.first_id]
    return [
        *labels_from(won, prompts, videos, f"across {round_number}"),
        *labels_from(played, prompts, videos, f"within {round_number}"),
        *from_preferences(pairs, prompts, videos, f"within {round_number - 1}"),
    ]


def _clearest(pairs: Sequence[PreferencePair]) -> dict[str, PreferencePair]:
    """The pair of each prompt with the largest margin, the first of equals."""
    clearest: dict[str, PreferencePair] = {}
    for pair in pairs:
        if pair.prompt_id not in clearest or pair.margin > clearest[pair.prompt_id].margin:
            clearest[pair.prompt_id] = pair
    return clearest


def from_preferences(
    pairs: Sequence[PreferencePair], prompts: Mapping[str, Prompt], videos: Mapping[str, Video], source: str
) -> list[LabelledPair]:
    """Preference pairs as labels, where both videos can be read."""
    return [
        LabelledPair(
            prompt=prompts[pair.prompt_id],
            first=videos[pair.chosen_id],
            second=videos[pair.rejected_id],
            preferred="first",
            source=source,
        )
        for pair in pairs
        if pair.chosen_id in videos and pair.rejected_id in videos
    ]
