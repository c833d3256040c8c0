"""How an audit asks: every pair once, in both orders, whatever the judge is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from reward_model.judging.base import Failure, PairwiseJudge, VideoJudge
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair, stable_id

Side = Literal["better", "other", "tie"]
Key = tuple[str, str, str]
"""A pair: the ids of its prompt, of the video given first, and of the other one."""
Said = tuple[OrderVerdict, OrderVerdict]
"""A judge's answers to both orders."""


@dataclass(frozen=True)
class Ask:
    """Which of two videos is better for a prompt: a sound judge says ``better``. ``cluster`` as in BaseClip."""

    prompt: Prompt
    better: Video
    other: Video
    cluster: str


@dataclass(frozen=True)
class Showing:
    """One showing: which of the two was named (None: nothing that can be read), whether the better one was shown first,
    and what was said.
    """

    chosen: Side | None
    better_first: bool
    said: OrderVerdict

    @property
    def position(self) -> Literal["first", "second", "tie"] | None:
        """The position that won."""
        return self.said.verdict


@dataclass(frozen=True)
class Opinion:
    """What a judge said of an :class:`Ask`: two showings, none where it said nothing."""

    ask: Ask
    showings: tuple[Showing, ...]

    @property
    def readable(self) -> bool:
        """Whether both showings have a verdict."""
        return len(self.showings) == 2 and all(showing.chosen for showing in self.showings)

    @property
    def score(self) -> float:
        """How far the better one won, in [0, 1]: a tie, and two orders that disagree, count ½."""
        worth = {"better": 1.0, "tie": 0.5, "other": 0.0, None: 0.5}
        return sum(worth[showing.chosen] for showing in self.showings) / len(self.showings)


class Asker:
    """Asks a judge, and keeps what it said. ``seed`` draws which video of a pair is given first."""

    def __init__(self, judge: PairwiseJudge, seed: int = 0, progress: Callable[[int], None] | None = None):
        self.judge, self.seed, self.progress = judge, seed, progress or (lambda _: None)
        self.asked = self.unanswered = 0
        self.reason = ""
        self._kept: dict[Key, Said | None] = {}

    def opinions(self, asks: Iterable[Ask]) -> list[Opinion]:
        """The opinions on what was asked, each pair asked once over the life of this; those that there are."""
        asks = [ask for ask in asks if ask.better.id != ask.other.id]
        pairs = {_key(pair): pair for pair in map(self._pair, asks)}
        new = [pair for key, pair in pairs.items() if key not in self._kept]
        if new:
            self._kept |= self.answers(new)
        return [opinion for ask in asks if (opinion := self._opinion(ask, self._kept))]

    def again(self, asks: Sequence[Ask]) -> list[Opinion | None]:
        """The opinions on ``asks``, asked anew in their order; None for those that there are not."""
        found = self.answers([self._pair(ask) for ask in asks])
        return [self._opinion(ask, found) for ask in asks]

    def answers(self, pairs: Sequence[VideoPair]) -> dict[Key, Said | None]:
        """What the judge says of both orders of each pair, asked in one go; None where it says nothing."""
        found = {_key(comparison): comparison for comparison in self._compare(pairs)}
        once = [pair for pair in pairs if (one := found.get(_key(pair))) and one.backward is None]
        # A judge that shows a pair once is shown it the other way round as well.
        mirrored = [VideoPair(prompt=pair.prompt, first=pair.second, second=pair.first) for pair in once]
        backward = {_key(comparison): comparison.forward for comparison in self._compare(mirrored)} if once else {}
        result: dict[Key, Said | None] = {}
        for pair in pairs:
            one = found.get(_key(pair))
            other = one and (one.backward or backward.get((pair.prompt.id, pair.second.id, pair.first.id)))
            result[_key(pair)] = (one.forward, other) if one and other else None
        self.asked += len(pairs)
        self.unanswered += sum(answer is None for answer in result.values())
        return result

    def _compare(self, pairs: Sequence[VideoPair]) -> Iterable[Comparison]:
        failures: list[Failure] = []
        judge = self.judge
        # Only judges that answer in words list what they could not judge; others raise, or leave it out.
        given = judge.compare(pairs, failures=failures) if isinstance(judge, VideoJudge) else judge.compare(pairs)
        for comparison in given:
            self.progress(1)
            yield comparison
        self.reason = self.reason or next((failure.reason for failure in failures), "")

    def _pair(self, ask: Ask) -> VideoPair:
        ends = (ask.better, ask.other)
        # Of the content, so that it is the same whoever asks; by chance, so that being named first tells nothing.
        if int(stable_id(self.seed, *sorted(video.id for video in ends)), 16) % 2 == (ends[0].id < ends[1].id):
            ends = ends[::-1]
        return VideoPair(prompt=ask.prompt, first=ends[0], second=ends[1])

    def _opinion(self, ask: Ask, found: dict[Key, Said | None]) -> Opinion | None:
        pair = self._pair(ask)
        if (said := found[_key(pair)]) is None:
            return None
        forward = pair.first.id == ask.better.id
        return Opinion(ask, (_showing(said[0], forward), _showing(said[1], not forward)))

    def check(self) -> None:
        """Raises InputError where the judge has answered nothing at all."""
        if self.asked and not any(said and any(one.verdict for one in said) for said in self._kept.values()):
            why = f" ({self.reason})" if self.reason else ""
            raise InputError(f"The judge answered none of {self.asked} questions so that it can be read{why}; "
                             "ask it one by hand first (pipelines.judge compare).")  # fmt: skip


def _key(pair: VideoPair | Comparison) -> Key:
    if isinstance(pair, Comparison):
        return pair.prompt_id, pair.first_id, pair.second_id
    return pair.prompt.id, pair.first.id, pair.second.id


def _showing(said: OrderVerdict, better_first: bool) -> Showing:
    chosen: Side | None = None
    if said.verdict == "tie":
        chosen = "tie"
    elif said.verdict is not None:
        chosen = "better" if (said.verdict == "first") == better_first else "other"
    return Showing(chosen, better_first, said)
