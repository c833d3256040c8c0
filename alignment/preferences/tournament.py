"""Finding the best and the worst of a prompt's videos with far fewer comparisons than all C(N,2).

It takes the judge to be transitive: a video that lost once is not the best, one that won once is not the worst. How
often that gives the full tournament's best and worst is measured by ``python -m benchmarks.adaptive``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from videoduet.records import Comparison, Prompt, Video, VideoPair


class Judge(Protocol):
    """Whoever compares pairs."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """A comparison of each pair, in any order."""
        ...


def adaptive_comparisons(
    judge: Judge, prompts: Mapping[str, Prompt], videos: Mapping[str, Sequence[Video]]
) -> Iterator[Comparison]:
    """The comparisons of tournaments, one for each prompt id in ``videos``, that stop when best and worst are settled.

    In each stage the videos that have not lost meet, two by two, and so do those that have not won; all prompts play a
    stage in one call of the judge. Last, the best meets the worst. A video that ties or is judged differently in the
    two orders stays in for both. About 3N/2 comparisons where the judge decides. The result is for
    :func:`alignment.preferences.ranking.rank`, whose order by wins less losses has the best first and the worst last.
    """
    games = {prompt_id: _Game(prompts[prompt_id], group) for prompt_id, group in videos.items()}
    while pairs := [pair for game in games.values() for pair in game.stage()]:
        for comparison in judge.compare(pairs):
            games[comparison.prompt_id].learn(comparison)
            yield comparison


class _Game:
    """One prompt's tournament."""

    def __init__(self, prompt: Prompt, videos: Sequence[Video]):
        self.prompt = prompt
        self.videos = list({video.id: video for video in videos}.values())
        self.won: set[str] = set()
        self.lost: set[str] = set()
        self.asked: set[frozenset[str]] = set()

    def learn(self, comparison: Comparison) -> None:
        if (winner := comparison.preferred_id) is not None:
            self.won.add(winner)
            self.lost.add(comparison.second_id if winner == comparison.first_id else comparison.first_id)

    def stage(self) -> list[VideoPair]:
        """The pairs of the next stage; none is asked twice, even if the judge left it out."""
        best = [video for video in self.videos if video.id not in self.lost]
        worst = [video for video in self.videos if video.id not in self.won]
        pairs: list[VideoPair] = []
        for alive in (best, worst):
            # Both groups are all videos at first; whoever plays already waits for the next stage.
            busy = {video.id for pair in pairs for video in (pair.first, pair.second)}
            pairs += self._matches([video for video in alive if video.id not in busy])
        if not pairs and len(best) == len(worst) == 1 and best != worst:
            pairs = self._matches([best[0], worst[0]])
        return pairs

    def _matches(self, alive: list[Video]) -> list[VideoPair]:
        pairs: list[VideoPair] = []
        while alive:
            first = alive.pop(0)
            opponents = (video for video in alive if frozenset((first.id, video.id)) not in self.asked)
            if (second := next(opponents, None)) is not None:
                alive.remove(second)
                self.asked.add(frozenset((first.id, second.id)))
                pairs.append(VideoPair(prompt=self.prompt, first=first, second=second))
        return pairs
