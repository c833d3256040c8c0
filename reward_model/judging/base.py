"""What all judges that answer in words have in common, wherever their model runs: what is asked, and what answers mean.

A backend only says how a stream of questions becomes a stream of answers.
"""

import itertools
import math
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from reward_model.inputs import GivenPair, GivenVideo, as_pair, as_video
from reward_model.judging.config import Decoding
from reward_model.parsing import Choice, parse_choice
from reward_model.prompts import Prompts, wording_id
from reward_model.questions import Clips, Question
from videoduet.errors import InputError, in_words
from videoduet.records import (
    Comparison,
    DimensionScore,
    OrderVerdict,
    Prompt,
    Video,
    VideoDescription,
    VideoPair,
    VideoScore,
    stable_id,
)

Record = TypeVar("Record")
Made = TypeVar("Made")


class PairwiseJudge(Protocol):
    """Anything with an opinion on pairs of videos: a model, human votes in a file, a metric."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Yield a comparison for each pair that can be judged, in any order."""
        ...


@dataclass(frozen=True)
class Answer:
    """What a judge said.

    ``p`` is the probability of the first label where the answer names a video; ``error`` says why there is no answer,
    and ``lost`` that it lies with the backend, not with the videos.
    """

    text: str = ""
    p: float | None = None
    error: str | None = None
    lost: bool = False


@dataclass(frozen=True)
class Failure:
    """What could not be judged (as it was given), and why; ``lost`` as in :class:`Answer`."""

    given: object
    reason: str
    lost: bool = False


class VideoJudge:
    """A judge that answers in words. ``judge_id`` names weights, comparison prompt and decoding."""

    def __init__(self, prompts: Prompts, *, judge_id: str, decoding: Decoding | None = None):
        self.prompts, self.judge_id, self.decoding = prompts, judge_id, decoding or Decoding()

    def answer(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """The answers, in the order of the questions; a question that cannot be asked is answered by its error.

        This is all that a backend has to say.
        """
        raise NotImplementedError

    def compare(self, pairs: Iterable[GivenPair], *, failures: list[Failure] | None = None) -> Iterator[Comparison]:
        """A comparison of every pair, judged in both orders, in the order of the pairs.

        A pair is a record, (first, second) or (first, second, prompt); videos are paths, arrays or tensors (see
        :mod:`reward_model.inputs`). What cannot be judged is put into ``failures`` and left out; without that list it
        raises InputError.
        """
        prompt = self.prompts.of("compare")
        read = prompt.compare("", "", "").read

        def showings(pair: VideoPair) -> list[Question]:
            text, first, second = pair.prompt.text, pair.first.path, pair.second.path
            return [prompt.compare(text, first, second), prompt.compare(text, second, first)]

        def make(pair: VideoPair, forward: list[Answer], backward: list[Answer]) -> Comparison:
            one, other = (majority(answers, read) for answers in (forward, backward))
            return Comparison.of(pair, self.judge_id, one, other, mean_probability(one, other))

        yield from self._answered(pairs, as_pair, showings, make, failures)

    def score(
        self, videos: Iterable[GivenVideo | tuple[GivenVideo, str]], *, failures: list[Failure] | None = None
    ) -> Iterator[VideoScore]:
        """A score of every video, or (video, prompt), in order; of several samples the mean of the readable ones."""
        prompt = self.prompts.of("score")
        judge_id = stable_id(self.judge_id, wording_id(prompt))

        def showings(shown: tuple[Video, Prompt]) -> list[Question]:
            return [prompt.score(shown[1].text, shown[0].path)]

        def make(shown: tuple[Video, Prompt], answers: list[Answer]) -> VideoScore:
            (question,) = showings(shown)
            read = [found for answer in answers if (found := question.read(answer.text)) is not None]
            means = {key: statistics.fmean(scores[key] for scores in read) for key in (read[0] if read else ())}
            return VideoScore(
                video_id=shown[0].id,
                prompt_id=shown[1].id,
                judge_id=judge_id,
                text=joined(answers),
                score=statistics.fmean(means.values()) if means else None,
                dimensions=tuple(DimensionScore(name=key, value=means[key]) for key in prompt.keys if means),
            )

        yield from self._answered(videos, as_shown, showings, make, failures)

    def describe(
        self, videos: Iterable[GivenVideo | tuple[GivenVideo, str]], *, failures: list[Failure] | None = None
    ) -> Iterator[VideoDescription]:
        """Every video, or (video, prompt), in words, asked for once each; in order."""
        prompt = self.prompts.of("describe")
        judge_id = stable_id(self.judge_id, wording_id(prompt))

        def showings(shown: tuple[Video, Prompt]) -> list[Question]:
            return [prompt.describe(shown[1].text, shown[0].path)]

        def make(shown: tuple[Video, Prompt], answers: list[Answer]) -> VideoDescription:
            (question,), text = showings(shown), answers[0].text
            return VideoDescription(
                video_id=shown[0].id,
                prompt_id=shown[1].id,
                judge_id=judge_id,
                text=text,
                description=question.read(text),
            )

        yield from self._answered(videos, as_shown, showings, make, failures)

    def _answered(
        self,
        given: Iterable,
        as_record: Callable[[object], tuple[Record, Clips]],
        showings: Callable[[Record], list[Question]],
        make: Callable[..., Made],
        failures: list[Failure] | None,
    ) -> Iterator[Made]:
        """A record of the answers to each showing of everything given."""
        # A backend reads ahead of its answers: what was asked and is not yet answered.
        waiting: deque[tuple[object, Record, list[int]]] = deque()

        def fail(item: object, reason: str, lost: bool = False) -> None:
            if failures is None:
                raise InputError(reason)
            failures.append(Failure(item, reason, lost))

        def questions() -> Iterator[Question]:
            for item in given:
                try:
                    record, clips = as_record(item)
                # Whatever is wrong with one item ends no batch.
                except Exception as error:
                    fail(item, in_words(error))
                    continue
                shown = showings(record)
                times = [self.decoding.samples if question.sampled else 1 for question in shown]
                waiting.append((item, record, times))
                for question, count in zip(shown, times, strict=True):
                    for sample in range(count):
                        yield replace(question, clips=clips, sample=sample)

        answers = iter(self.answer(questions()))
        for first in answers:
            item, record, times = waiting.popleft()
            group = [first, *itertools.islice(answers, sum(times) - 1)]
            failed = next((answer for answer in group if answer.error is not None), None)
            if failed is not None:
                fail(item, failed.error, failed.lost)
                continue
            said = iter(group)
            yield make(record, *(list(itertools.islice(said, count)) for count in times))


def as_shown(given: object) -> tuple[tuple[Video, Prompt], Clips]:
    """The record of a video, or of (video, prompt), with its prompt, and its frames where it lies in no file."""
    given, prompt = given if isinstance(given, tuple) else (given, "")
    video, clips = as_video(given)
    return (video, prompt if isinstance(prompt, Prompt) else Prompt.of(prompt)), clips


def in_order(
    pairs: Sequence[VideoPair], known: Sequence[Comparison | None], asked: Iterable[Comparison]
) -> Iterator[Comparison]:
    """The ``known`` comparison of each pair, or the next of those ``asked`` for where there is none (None), in the
    order of the pairs; what was asked about leaves out pairs that could not be shown.
    """
    answers = iter(asked)
    answer = next(answers, None)
    for pair, given in zip(pairs, known, strict=True):
        if given is not None:
            yield given
        elif answer is not None and (answer.first_id, answer.second_id) == (pair.first.id, pair.second.id):
            yield answer
            answer = next(answers, None)


def joined(answers: list[Answer]) -> str:
    """The text of an answer, or of several samples one after the other."""
    if len(answers) == 1:
        return answers[0].text
    return "\n\n".join(f"[sample {number}]\n{answer.text}" for number, answer in enumerate(answers, 1))


def majority(answers: list[Answer], read: Callable[[str], Choice | None] = parse_choice) -> OrderVerdict:
    """The verdict of most samples that ``read`` can read, with the mean of their probabilities; where two verdicts are
    equally frequent it is a tie, and None where no sample can be read.
    """
    verdicts = [read(answer.text) for answer in answers]
    count: Counter[Choice] = Counter(verdict for verdict in verdicts if verdict is not None)
    (winner, most), *others = count.most_common() or [(None, 0)]
    if any(number == most for _, number in others):
        winner = "tie"
    known = [answer.p for answer in answers if answer.p is not None]
    return OrderVerdict(text=joined(answers), verdict=winner, p=statistics.fmean(known) if known else None)


def mean_probability(forward: OrderVerdict, backward: OrderVerdict) -> float | None:
    """P(first video) from both orders, averaged as logits: a constant preference for a position cancels."""
    if forward.p is None or backward.p is None:
        return None
    tiny = 1e-9
    logit = [math.log(max(p, tiny) / max(1 - p, tiny)) for p in (forward.p, backward.p)]
    return 1 / (1 + math.exp(-(logit[0] - logit[1]) / 2))


def label_probability(
    tokens: Sequence[str], likeliest: Sequence[Mapping[str, float]], labels: tuple[str, str]
) -> float | None:
    """The probability of the first label against the second, at the token that makes the answer readable.

    ``likeliest[i]`` are log-probabilities of the likeliest tokens at step i, by their text; a space before a label does
    not matter. None where the answer names no video or spells it otherwise.
    """
    # Some servers list the token that ends the answer.
    tokens = ["" if token.startswith("<|") and token.endswith("|>") else token for token in tokens]
    names = [label.strip() for label in labels]
    verdict = parse_choice("".join(tokens))
    for step in reversed(range(len(tokens))):
        if tokens[step].strip() not in names or verdict not in ("first", "second"):
            continue
        if parse_choice("".join(tokens[:step])) is None and parse_choice("".join(tokens[: step + 1])) == verdict:
            mass = [
                sum(math.exp(value) for text, value in likeliest[step].items() if text.strip() == name)
                for name in names
            ]
            return mass[0] / sum(mass) if sum(mass) else None
    return None
