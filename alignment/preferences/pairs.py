"""From rankings to preference pairs: which videos the generator learns to prefer to which."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from videoduet.config import identity
from videoduet.errors import InputError
from videoduet.records import Comparison, PreferencePair, Ranking

if TYPE_CHECKING:
    from alignment.preferences.ranking import JudgeStatistics

POSITION_LIMIT = 0.95
"""A judge whose winner sits in one position in at least this fraction of its showings follows position."""

FEWEST_SHOWINGS = 6
"""Below this many showings one position may well win them all by chance (six fair coins agree 1 time in 32)."""


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Which pairs are kept.

    Attributes:
        pairs_per_prompt: A square k²; 1 is the papers' best against worst, k² is the k top against the k bottom videos,
            for where prompts are few. Fewer come out where a filter or the number of videos does not allow more.
        min_margin: Least difference of win rates, in [0, 1].
        min_agreement: Least fraction of the prompt's parsed comparisons whose two orders agreed, in [0, 1].
    """

    pairs_per_prompt: int = identity(1)
    min_margin: float = identity(0.0)
    min_agreement: float = identity(0.0)

    def __post_init__(self) -> None:
        if self.pairs_per_prompt < 1 or math.isqrt(self.pairs_per_prompt) ** 2 != self.pairs_per_prompt:
            raise InputError(
                f"pairs_per_prompt is {self.pairs_per_prompt}; give a square (1, 4, 9, ...): k top against k bottom.",
                exit_code=2,
            )
        for name in ("min_margin", "min_agreement"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a number in [0, 1].", exit_code=2)


def select_pairs(
    rankings: Mapping[str, Ranking] | Iterable[Ranking],
    comparisons: Iterable[Comparison],
    rounds: Mapping[str, int],
    config: PairConfig,
) -> list[PreferencePair]:
    """Pair the best videos of each prompt with its worst; the same input always gives the same list.

    ``rankings`` are those of :func:`alignment.preferences.ranking.rank_prompts` (or their values), ``comparisons`` what
    they were made from, ``rounds[video id]`` the round in which a video was sampled. Videos are ordered by wins less
    losses (where all are compared equally often, by wins), then Bradley-Terry strength, then id. A pair is kept where
    the chosen has strictly more wins and the higher win rate and, if the two were compared with each other, every such
    comparison decided for the chosen: a tie, a disagreement or an unparsable answer is never a label. Prompts without
    a pair are left out.

    Raises InputError for a chosen or rejected video that ``rounds`` does not know.
    """
    direct: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        direct[_key(comparison.prompt_id, comparison.first_id, comparison.second_id)].append(comparison)
    pairs: list[PreferencePair] = []
    if isinstance(rankings, Mapping):
        # Else the checker also counts with a mapping from rankings to anything, which is an Iterable[Ranking] too.
        rankings = cast("Mapping[str, Ranking]", rankings).values()
    for ranking in rankings:
        if ranking.agreement is None or ranking.agreement < config.min_agreement:
            continue
        for chosen, rejected in _candidates(ranking, math.isqrt(config.pairs_per_prompt)):
            margin = _win_rate(ranking, chosen) - _win_rate(ranking, rejected)
            if ranking.wins[chosen] <= ranking.wins[rejected] or margin <= 0 or margin < config.min_margin:
                continue
            chosen_id, rejected_id = ranking.video_ids[chosen], ranking.video_ids[rejected]
            between = direct.get(_key(ranking.prompt_id, chosen_id, rejected_id), [])
            if any(comparison.preferred_id != chosen_id for comparison in between):
                continue
            pairs.append(
                PreferencePair(
                    prompt_id=ranking.prompt_id,
                    chosen_id=chosen_id,
                    rejected_id=rejected_id,
                    chosen_round=_round(rounds, chosen_id),
                    rejected_round=_round(rounds, rejected_id),
                    margin=margin,
                    agreement=ranking.agreement,
                    comparison_ids=tuple(sorted(comparison.id for comparison in between)),
                )
            )
    return pairs


def follows_position(statistics: "JudgeStatistics") -> bool:
    """Whether a judge answers by position (always the first, or always the second) rather than by the videos.

    ``statistics`` are those of :func:`alignment.preferences.ranking.judge_statistics`. Such a judge's single-order
    answers look like a perfect ranking and carry no information, so nothing may be learnt from it.
    """
    rate = statistics["first_position_rate"]
    if rate is None or statistics["showings_with_winner"] < FEWEST_SHOWINGS:
        return False
    return max(rate, 1 - rate) >= POSITION_LIMIT


def _candidates(ranking: Ranking, k: int) -> list[tuple[int, int]]:
    """Indices (chosen, rejected): the k best against the k worst, who are never the same; extremes first."""
    # Not above: ranking needs scipy, for which nobody should wait who only reads a PairConfig.
    from alignment.preferences.ranking import order_by_standing

    order = [index for index in order_by_standing(ranking) if ranking.comparisons[index]]
    k = min(k, len(order) // 2)
    return [(chosen, rejected) for chosen in order[:k] for rejected in order[::-1][:k]]


def _win_rate(ranking: Ranking, index: int) -> float:
    return ranking.wins[index] / ranking.comparisons[index]


def _key(prompt_id: str, one: str, other: str) -> tuple[str, str, str]:
    return prompt_id, min(one, other), max(one, other)


def _round(rounds: Mapping[str, int], video_id: str) -> int:
    if video_id not in rounds:
        raise InputError(f"Video {video_id} was compared but has no sample record; rank the samples at hand again.")
    return rounds[video_id]
