"""The paper's labels for a refresh: of each prompt the best new video is better than the loser of the round before."""

from collections.abc import Mapping, Sequence

from alignment.preferences.pairs import follows_position
from alignment.preferences.ranking import judge_statistics, order_by_standing, rank_prompts
from pipelines.loop.labels import Generated, from_preferences
from reward_model.training.refresh import labels_from
from videoduet.records import Comparison, LabelledPair, Ranking, Video


def paper_labels(
    generated: Generated, now: Sequence[Comparison], before: Sequence[Comparison], round_number: int
) -> list[LabelledPair]:
    """Labels from what D_(r - 1) said of all pairs of new videos (``now``) and of all old ones (``before``).

    *across*: of every prompt x̂ʷ ≻ xˡ (VQ-Insight, stage 3), the new video that was preferred most often and the old one
    that was preferred least, whatever the judge would say of these two. *within*: pairs of one version that it decided
    in both orders, so that telling versions apart earns nothing. A judge that follows position gives none.
    """
    if follows_position(judge_statistics(now)):
        return []
    prompts = {prompt.id: prompt for prompt in generated.refreshing}
    best, worst = _standing(now, generated.new, 0), _standing(before, generated.old, -1)
    across = [
        LabelledPair(
            prompt=prompts[prompt_id], first=winner, second=worst[prompt_id], preferred="first",
            source=f"across {round_number}",
        )
        for prompt_id, winner in best.items()
        if prompt_id in prompts and prompt_id in worst and winner.id != worst[prompt_id].id
    ]  # fmt: skip
    both = (*generated.new.values(), *generated.old.values())
    videos = {video_id: video for group in both for video_id, video in group.items()}
    decided = [c for c in now if c.prompt_id in prompts and {c.first_id, c.second_id} <= videos.keys()]
    preferences = [pair for pair in generated.pairs if pair.prompt_id in prompts]
    return [
        *across,
        *labels_from(decided, prompts, videos, f"within {round_number}"),
        *from_preferences(preferences, prompts, videos, f"within {round_number - 1}"),
    ]


def _standing(
    comparisons: Sequence[Comparison], videos: Mapping[str, Mapping[str, Video]], place: int
) -> dict[str, Video]:
    """The readable video at that ``place`` of each prompt's ranking, of those about which something was said."""
    found: dict[str, Video] = {}
    for prompt_id, ranking in rank_prompts(comparisons).items():
        if order := _readable(ranking, videos.get(prompt_id, {})):
            found[prompt_id] = videos[prompt_id][order[place]]
    return found


def _readable(ranking: Ranking, videos: Mapping[str, Video]) -> list[str]:
    order = [index for index in order_by_standing(ranking) if ranking.comparisons[index]]
    return [ranking.video_ids[index] for index in order if ranking.video_ids[index] in videos]
