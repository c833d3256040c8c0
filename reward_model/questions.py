"""What any judge can be asked: the kinds of question, each with its chat messages and the reading of its answer.

A question is one showing of some videos, named by path, and the words around them. Wordings
(:mod:`reward_model.prompts`) make questions; a judge's backend (:mod:`reward_model.judging`) turns a stream of them
into a stream of answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reward_model.parsing import Choice, described, parse_choice, parse_option, read_scores
from reward_model.published_answers import CHOICES, SCORES
from videoduet.video import Clip, Sampling

Clips = dict[str, Clip]
"""Frames that were given and lie in no file, by the path that stands for them."""


@dataclass(frozen=True)
class View:
    """How much of its videos a question shows, and how long its answer may be.

    Attributes:
        sampling: Which frames of each video.
        max_pixels: The most pixels a frame is shown with (None: what the model's processor says).
        max_new_tokens: The longest answer, in tokens.
        layout: How frames are written, where a family of models knows several ways (None: its usual one).
    """

    sampling: Sampling
    max_pixels: int | None
    max_new_tokens: int
    layout: str | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """One showing, asked in words.

    Attributes:
        messages: Chat messages whose videos are named by path and decoded only where pixels are needed.
        view: How much is shown of them.
        labels: How an answer names the first and the second video, one token each, whose probabilities are wanted
            (None: it names none).
        clips: The videos among them that lie in no file.
        sample: Counts the times that the same question is asked.
    """

    messages: list[dict[str, Any]]
    view: View
    labels: tuple[str, str] | None = None
    clips: Clips = field(default_factory=dict)
    sample: int = 0

    sampled: ClassVar[bool] = True
    """Whether it is asked as often, and as hot, as the judge's decoding says; else it is asked once, greedily."""

    def read(self, text: str) -> Any:
        """What an answer says, or None where it cannot be read."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CompareQuestion(Question):
    """Which of two videos is better; ``read_as`` names the rule by which an answer in a judge's own form is read."""

    read_as: str | None = None

    def read(self, text: str) -> Choice | None:
        """The video that an answer names: 'first', 'second', 'tie' or None."""
        return parse_choice(text) if self.read_as is None else CHOICES[self.read_as](text)


@dataclass(frozen=True, kw_only=True)
class ScoreQuestion(Question):
    """How good a video is: one number, or one for each of ``keys``; a number outside ``scale`` (None: any number will
    do) cannot be read. ``prompt`` is what it was drawn for, which the words may say; ``read_as`` names the rule by
    which an answer in a judge's own form is read. For a judge that reads no words, ``about`` is what they ask about
    where that is one thing, whose number has no key, and ``asked_on`` the scale that they name (None: ``scale``).
    """

    prompt: str = ""
    keys: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None
    read_as: str | None = None
    about: str | None = None
    asked_on: tuple[float, float] | None = None

    def read(self, text: str) -> dict[str, float] | None:
        """The scores by key ("" for a single one); None where one is missing or outside the scale."""
        if self.read_as is not None:
            return SCORES[self.read_as](text, self.keys, self.scale)
        return read_scores(text, self.keys, self.scale)


@dataclass(frozen=True, kw_only=True)
class OptionQuestion(Question):
    """Which of ``options`` ('yes', 'no'; 'A', 'B', 'C') is true of one video or several."""

    options: tuple[str, ...]

    def read(self, text: str) -> str | None:
        """The option that an answer names, or None."""
        return parse_option(text, self.options)


@dataclass(frozen=True, kw_only=True)
class DescribeQuestion(Question):
    """What a video shows, in words, which are asked for once."""

    sampled: ClassVar[bool] = False

    def read(self, text: str) -> str:
        """The words of an answer, without thought and tags."""
        return described(text)


def plain(text: str) -> str:
    """``text`` with nothing in it that acts as a control token: somebody wrote it, and it must stay words."""
    return text.replace("<|", "< |").replace("|>", "| >")


def chat(system: str | None, content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages: what the judge is, where something is said of that, then the ``content`` that a user shows."""
    first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*first, {"role": "user", "content": list(content)}]


def video_paths(messages: Sequence[dict[str, Any]]) -> list[str]:
    """The paths of the videos in chat messages, in the order in which they are shown."""
    return [
        part["video"]
        for message in messages
        if not isinstance(message["content"], str)
        for part in message["content"]
        if part["type"] == "video"
    ]
