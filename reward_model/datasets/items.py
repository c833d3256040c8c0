"""What a data set holds, whoever published it: clips with scores, pairs with a preference, questions with an answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from reward_model.parsing import Choice
from videoduet.records import Prompt, Video, VideoPair
from videoduet.seeding import seed_for

Split = Literal["train", "validation", "test", "test_1080p", "all"]


@dataclass(frozen=True, kw_only=True)
class ScoredClip:
    """A video (or an image) with mean opinion scores by dimension, on the data set's own scale.

    ``prompt`` is the text it was generated from (None: it was filmed). A data set of one dimension calls it 'overall'.
    """

    path: str
    scores: dict[str, float]
    prompt: str | None = None
    image: bool = False


@dataclass(frozen=True, kw_only=True)
class PreferenceItem:
    """Two videos of one prompt, and which of them people preferred, by dimension (at least 'overall')."""

    first: str
    second: str
    prompt: str
    preferred: dict[str, Choice]

    @property
    def pair(self) -> VideoPair:
        """The question about it; its videos are named by their path as it stands here."""
        first, second = (Video(id=path, path=str(Path(path).absolute())) for path in (self.first, self.second))
        return VideoPair(prompt=Prompt.of(self.prompt), first=first, second=second)


@dataclass(frozen=True, kw_only=True)
class QuestionItem:
    """A question about one video or two, its options and the right one; ``kind`` is a group to report by, and so is
    each of ``groups``.

    Options are what an answer may say: ('yes', 'no'), or letters, which the question then spells out.
    """

    paths: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    answer: str
    kind: str = ""
    groups: tuple[str, ...] = ()


Item = ScoredClip | PreferenceItem | QuestionItem


@dataclass(frozen=True)
class Reading:
    """What could be read of a data set.

    ``scale`` (low, high) is the range that its scores are declared on (None: it has none). ``missing`` names rows
    whose video is not there, and ``left_out`` counts rows that are unusable for another reason, by that reason.
    ``published_split`` says that the split is one that the folder's own files make.
    """

    name: str
    split: str
    items: Sequence[Item]
    scale: tuple[float, float] | None = None
    missing: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter[str])
    published_split: bool = False

    def limited(self, limit: int | None, seed: int) -> Self:
        """``limit`` of the items, in their order: a draw that follows from ``seed`` (None: all of them)."""
        if limit is None or limit >= len(self.items):
            return self
        order = sorted(range(len(self.items)), key=lambda index: seed_for(seed, "item", index))
        return replace(self, items=[self.items[index] for index in sorted(order[:limit])])

    def summary(self) -> str:
        """One sentence for a person: what there is and what is not."""
        text = f"{self.name} ({self.split}): {len(self.items)} items"
        if self.missing:
            text += f"; {len(self.missing)} rows without their video, such as {self.missing[0]}"
        return text + "".join(f"; {count} {reason}" for reason, count in self.left_out.items()) + "."
