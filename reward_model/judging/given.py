"""What a judge that sees many videos at once is given, some at a time; videos are decoded before they are wanted."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from reward_model.encoding import ShowingEncoder
from reward_model.inputs import as_pair
from reward_model.judging.base import Failure, as_shown
from reward_model.questions import Clips, ScoreQuestion, video_paths
from videoduet.errors import InputError, in_words
from videoduet.records import Prompt, Video

Item = tuple[Video, Prompt]


@dataclass(frozen=True)
class Given:
    """What was ``given``, its ``record``, the ``videos`` that it shows with what they were drawn for, and those of them
    that lie in no file; ``error`` is what is wrong with it.
    """

    given: Any
    record: Any = None
    videos: tuple[Item, ...] = ()
    clips: Clips = field(default_factory=Clips)
    error: Exception | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        """Its videos. Raises what is wrong with it."""
        if self.error is not None:
            raise self.error
        return self.videos

    def fail(self, failures: list[Failure] | None, error: Exception) -> None:
        """Put it into ``failures``; without that list raise InputError."""
        if failures is None:
            raise InputError(in_words(error)) from error
        failures.append(Failure(self.given, in_words(error)))


def shown(given: Any) -> Given:
    """A video, or (video, prompt)."""
    item, clips = as_shown(given)
    return Given(given, item, (item,), clips)


def paired(given: Any) -> Given:
    """A pair of videos."""
    pair, clips = as_pair(given)
    return Given(given, pair, ((pair.first, pair.prompt), (pair.second, pair.prompt)), clips)


def questioned(question: ScoreQuestion) -> Given:
    """A question about one video."""
    (path,) = video_paths(question.messages)
    return Given(question, question, ((Video(id=path, path=path), Prompt.of(question.prompt)),), question.clips)


def windows(
    given: Iterable[Any], read: Callable[[Any], Given], size: int, encoder: ShowingEncoder
) -> Iterator[list[Given]]:
    """What is ``given``, ``size`` at a time, as ``read`` takes it; ``encoder`` decodes the videos of the next ones
    while these are judged.
    """
    waiting = iter(given)

    def look(each: Any) -> Given:
        try:
            one = read(each)
        # Whatever is wrong with one item ends no batch.
        except Exception as error:
            return Given(each, error=error)
        for video, _ in one.videos:
            if video.path not in one.clips:
                encoder.expect(video.path)
        return one

    def some() -> list[Given]:
        return [look(each) for each in itertools.islice(waiting, size)]

    following = some()
    try:
        while following:
            window, following = following, some()
            yield window
    finally:
        encoder.forget()
