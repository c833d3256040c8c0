"""A judge that scores goes first: only pairs that it cannot tell are asked of a judge that reasons.

The scorer's own interval decides: where two scores lie farther apart than its errors on held-out videos do, the pair is
told; where they do not, the other judge compares. A tournament of N videos costs N scores and the comparisons of what
is close.
"""

import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from reward_model.judging.base import Failure, PairwiseJudge, in_order
from videoduet.records import Comparison, OrderVerdict, Prompt, Verdict, Video, VideoPair, VideoScore

SURE = 0.95
"""How sure a scorer has to be of a difference, where nobody says."""
AT_ONCE = 256
"""Pairs that are looked through before the other judge is asked about those that are left."""


class Scorer(Protocol):
    """Whoever scores videos, and knows how far its differences may be off."""

    judge_id: str

    def score(self, videos: Iterable[Any], *, failures: list[Failure] | None = None) -> Iterator[VideoScore]:
        """A score of every video, or (video, prompt), in order."""
        ...

    def margin(self, sure: float) -> float:
        """How far apart two scores have to be for being told apart."""
        ...


@dataclass
class Told:
    """What a first pass came to.

    Attributes:
        scored: Videos that the first judge scored.
        told: Pairs that it told apart.
        asked: Pairs that went to the other judge.
        scoring: Seconds that scores took.
        asking: Seconds that the other judge took.
    """

    scored: int = 0
    told: int = 0
    asked: int = 0
    scoring: float = 0.0
    asking: float = 0.0

    @property
    def saved(self) -> float | None:
        """Seconds that the other judge would have taken for what was told, less those of the scores; None where it was
        asked nothing, so that nobody knows.
        """
        return self.told * self.asking / self.asked - self.scoring if self.asked else None

    def __str__(self) -> str:
        saved = "" if self.saved is None else f", which saves about {self.saved:.0f} s"
        return (
            f"First pass: {self.told} of {self.told + self.asked} pairs told by {self.scored} scores in "
            f"{self.scoring:.1f} s; {self.asked} asked in {self.asking:.1f} s{saved}."
        )


@dataclass
class FirstPassJudge:
    """``scorer`` tells what it can, ``load`` gives the judge of the rest, which is loaded where there is a rest.

    ``sure`` is how sure the scorer has to be of a difference; ``told`` counts. Raises InputError where the scorer does
    not know how far off it is.
    """

    scorer: Scorer
    load: Callable[[], PairwiseJudge]
    sure: float = SURE
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.margin = self.scorer.margin(self.sure)
        self._judge: PairwiseJudge | None = None
        self._scores: dict[tuple[str, str], float] = {}

    def compare(self, pairs: Iterable[VideoPair], *, failures: list[Failure] | None = None) -> Iterator[Comparison]:
        """A comparison of every pair, in order, by the one judge or the other, whose ``judge_id`` it has.

        What cannot be scored is left to the other judge, which tells what is wrong with it.
        """
        waiting = iter(pairs)
        while window := list(itertools.islice(waiting, AT_ONCE)):
            started = time.perf_counter()
            self._score(window)
            found = [self._tell(pair) for pair in window]
            self.told.scoring += time.perf_counter() - started
            left = [pair for pair, known in zip(window, found, strict=True) if known is None]
            self.told.told, self.told.asked = self.told.told + len(window) - len(left), self.told.asked + len(left)
            yield from in_order(window, found, self._ask(left, failures))

    def _score(self, pairs: Iterable[VideoPair]) -> None:
        new: dict[tuple[str, str], tuple[Video, Prompt]] = {}
        for pair in pairs:
            for video in (pair.first, pair.second):
                if (key := (video.id, pair.prompt.id)) not in self._scores:
                    new[key] = (video, pair.prompt)
        missed: list[Failure] = []
        for score in self.scorer.score(list(new.values()), failures=missed):
            if score.score is not None:
                self._scores[score.video_id, score.prompt_id] = score.score
                self.told.scored += 1

    def _tell(self, pair: VideoPair) -> Comparison | None:
        first, second = (self._scores.get((video.id, pair.prompt.id), math.nan) for video in (pair.first, pair.second))
        gap = first - second
        if not abs(gap) > self.margin:
            return None
        winner: Verdict = "first" if gap > 0 else "second"
        loser: Verdict = "second" if gap > 0 else "first"
        said = f"Scores {first:.1f} and {second:.1f}, farther apart than {self.margin:.1f}."
        p = (1 + self.sure) / 2
        forward = OrderVerdict(text=said, verdict=winner, p=p if gap > 0 else 1 - p)
        backward = OrderVerdict(text=said, verdict=loser, p=1 - p if gap > 0 else p)
        return Comparison.of(pair, self.scorer.judge_id, forward, backward, forward.p)

    def _ask(self, pairs: list[VideoPair], failures: list[Failure] | None) -> Iterator[Comparison]:
        if not pairs:
            return
        started = time.perf_counter()
        if self._judge is None:
            self._judge = self.load()
            started = time.perf_counter()
        judge: Any = self._judge
        lists = "failures" in inspect.signature(judge.compare).parameters
        for comparison in judge.compare(pairs, **({"failures": failures} if lists else {})):
            self.told.asking += time.perf_counter() - started
            yield comparison
            started = time.perf_counter()
        self.told.asking += time.perf_counter() - started
