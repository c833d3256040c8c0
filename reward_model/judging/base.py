"""What all judges that answer in words have in common, wherever their model runs: what is asked, and what answers mean.

A backend only says how a stream of questions becomes a stream of answers.
"""

import hashlib
import itertools
import json
import math
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reward_model.inputs import Clips, GivenPair, GivenVideo, as_pair, as_video
from reward_model.parsing import Choice, parse_choice, parse_score, parse_scores
from reward_model.prompts import JudgePrompt, VideoPrompt
from videoduet.errors import InputError
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


@dataclass(frozen=True)
class Question:
    """One showing: chat messages whose videos are named by path, and the prompt they were made with.

    ``clips`` are the videos that lie in no file; ``sample`` counts the times that the same question is asked.
    """

    messages: list[dict]
    prompt: JudgePrompt | VideoPrompt
    clips: Clips = field(default_factory=dict)
    sample: int = 0


@dataclass(frozen=True)
class Answer:
    """``p`` is the probability of the first label where the answer names a video; ``error`` says why there is none."""

    text: str = ""
    p: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Failure:
    """What could not be judged (as it was given), and why."""

    given: object
    reason: str


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn: greedily where ``samples`` is 1, else that many at ``temperature``, of which the majority
    counts.
    """

    samples: int = 1
    temperature: float = 0.7

    def __post_init__(self) -> None:
        if self.samples < 1 or not self.temperature > 0:
            raise InputError(f"{self} cannot be used; give samples >= 1 and temperature > 0.", exit_code=2)

    def __str__(self) -> str:
        return "greedy" if self.samples == 1 else f"{self.samples} samples at {self.temperature}"


@dataclass(frozen=True)
class Prompts:
    """What a judge is asked for each kind of question; None where it is not made for it."""

    compare: JudgePrompt | None = None
    score: VideoPrompt | None = None
    describe: VideoPrompt | None = None


class VideoJudge:
    """A judge that answers in words. ``judge_id`` names weights, comparison prompt and decoding."""

    def __init__(self, prompts: Prompts, *, judge_id: str, decoding: Decoding | None = None):
        self.prompts, self.judge_id, self.decoding = prompts, judge_id, decoding or Decoding()

    def _ask(self, questions: Iterator[Question]) -> Iterator[Answer]:
        """The answers, in the order of the questions; a question that cannot be asked is answered by its error."""
        raise NotImplementedError

    def compare(self, pairs: Iterable[GivenPair], *, failures: list[Failure] | None = None) -> Iterator[Comparison]:
        """Judge every pair in both orders; comparisons come in the order of the pairs.

        A pair is a record, (first, second) or (first, second, prompt); videos are paths, arrays or tensors (see
        :mod:`reward_model.inputs`). What cannot be judged is put into ``failures`` and left out; without that list it
        raises InputError.
        """
        prompt = self._prompt("compare")

        def showings(pair: VideoPair) -> list[list[dict]]:
            text, first, second = pair.prompt.text, pair.first.path, pair.second.path
            return [prompt.messages(text, first, second), prompt.messages(text, second, first)]

        def make(pair: VideoPair, forward: list[Answer], backward: list[Answer]) -> Comparison:
            one, other = majority(forward), majority(backward)
            return Comparison.of(pair, self.judge_id, one, other, mean_probability(one, other))

        yield from self._answered(pairs, as_pair, prompt, showings, make, failures)

    def score(
        self, videos: Iterable[GivenVideo | tuple[GivenVideo, str]], *, failures: list[Failure] | None = None
    ) -> Iterator[VideoScore]:
        """Score every video, or (video, prompt), in order. Of several samples those that can be read are averaged."""
        prompt = self._prompt("score")
        judge_id = stable_id(self.judge_id, wording_id(prompt))

        def make(shown: tuple[Video, Prompt], answers: list[Answer]) -> VideoScore:
            read = [found for answer in answers if (found := read_score(answer.text, prompt)) is not None]
            means = {key: statistics.fmean(scores[key] for scores in read) for key in (read[0] if read else ())}
            return VideoScore(
                video_id=shown[0].id,
                prompt_id=shown[1].id,
                judge_id=judge_id,
                text=joined(answers),
                score=statistics.fmean(means.values()) if means else None,
                dimensions=tuple(DimensionScore(name=key, value=means[key]) for key in prompt.keys if means),
            )

        yield from self._answered(videos, _as_shown, prompt, _one_showing(prompt), make, failures)

    def describe(
        self, videos: Iterable[GivenVideo | tuple[GivenVideo, str]], *, failures: list[Failure] | None = None
    ) -> Iterator[VideoDescription]:
        """Describe every video, or (video, prompt), in order and in words, once each."""
        prompt = self._prompt("describe")
        judge_id = stable_id(self.judge_id, wording_id(prompt))

        def make(shown: tuple[Video, Prompt], answers: list[Answer]) -> VideoDescription:
            text = answers[0].text
            words = text.rpartition("</think>")[2].replace("<answer>", "").replace("</answer>", "").strip()
            return VideoDescription(
                video_id=shown[0].id, prompt_id=shown[1].id, judge_id=judge_id, text=text, description=words
            )

        yield from self._answered(videos, _as_shown, prompt, _one_showing(prompt), make, failures)

    def _prompt(self, kind: str) -> JudgePrompt | VideoPrompt:
        if (prompt := getattr(self.prompts, kind)) is None:
            raise InputError(f"This judge is not made to {kind}; take another preset or judge.", exit_code=2)
        return prompt

    def _answered(
        self,
        given: Iterable,
        as_record: Callable[[object], tuple[Record, Clips]],
        prompt: JudgePrompt | VideoPrompt,
        showings: Callable[[Record], list[list[dict]]],
        make: Callable[..., Made],
        failures: list[Failure] | None,
    ) -> Iterator[Made]:
        """Ask about everything given, and make a record of the answers to each showing of it."""
        waiting: deque[tuple[object, Record, int]] = deque()
        samples = 1 if prompt is self.prompts.describe else self.decoding.samples

        def fail(item: object, reason: str) -> None:
            if failures is None:
                raise InputError(reason)
            failures.append(Failure(item, reason))

        def questions() -> Iterator[Question]:
            for item in given:
                try:
                    record, clips = as_record(item)
                except InputError as error:
                    fail(item, str(error))
                    continue
                shown = showings(record)
                waiting.append((item, record, len(shown)))
                for messages, sample in itertools.product(shown, range(samples)):
                    yield Question(messages, prompt, clips, sample)

        answers = self._ask(questions())
        for first in answers:
            item, record, count = waiting.popleft()
            group = [first, *itertools.islice(answers, count * samples - 1)]
            error = next((answer.error for answer in group if answer.error is not None), None)
            if error is not None:
                fail(item, error)
                continue
            yield make(record, *(group[start : start + samples] for start in range(0, len(group), samples)))


def wording_id(prompt: JudgePrompt | VideoPrompt) -> str:
    """A hash of all that a judge is asked and shown."""
    return hashlib.sha256(json.dumps(prompt.fields(), sort_keys=True).encode()).hexdigest()


def _as_shown(given: object) -> tuple[tuple[Video, Prompt], Clips]:
    given, prompt = given if isinstance(given, tuple) else (given, "")
    video, clips = as_video(given)
    return (video, prompt if isinstance(prompt, Prompt) else Prompt.of(prompt)), clips


def _one_showing(prompt: VideoPrompt) -> Callable[[tuple[Video, Prompt]], list[list[dict]]]:
    return lambda shown: [prompt.messages(shown[1].text, shown[0].path)]


def read_score(text: str, prompt: VideoPrompt) -> Mapping[str, float] | None:
    """The scores in an answer by key ("" for a single one); None where one is missing or outside the scale."""
    if prompt.keys:
        scores = parse_scores(text, prompt.keys)
    else:
        score = parse_score(text)
        scores = None if score is None else {"": score}
    low, high = prompt.scale
    return scores if scores and all(low <= value <= high for value in scores.values()) else None


def joined(answers: list[Answer]) -> str:
    """The text of an answer, or of several samples one after the other."""
    if len(answers) == 1:
        return answers[0].text
    return "\n\n".join(f"[sample {number}]\n{answer.text}" for number, answer in enumerate(answers, 1))


def majority(answers: list[Answer]) -> OrderVerdict:
    """The verdict of most samples that can be read, with the mean of their probabilities; where two verdicts are
    equally frequent it is a tie, and None where no sample can be read.
    """
    verdicts = [parse_choice(answer.text) for answer in answers]
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
