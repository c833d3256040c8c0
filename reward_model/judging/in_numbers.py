"""What a judge that rates in numbers says where one in words would be asked: answers, and comparisons."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence

from reward_model.judging.base import Answer
from reward_model.questions import ScoreQuestion
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, Verdict, VideoPair

WHOLE = "overall"
"""What data sets call a video as a whole, which is the mean of what a judge rates unless it rates that."""
FULL = (0.0, 100.0)


def rated_in(question: ScoreQuestion, dimensions: Sequence[str]) -> tuple[str, ...]:
    """Which of a judge's ``dimensions`` a question is about: all where it is about the whole.

    Raises InputError where it is about something else.
    """
    if (about := question.about) is None or (about == WHOLE and about not in dimensions):
        asked = question.keys
    else:
        asked = (about,)
    if strange := [name for name in asked if name not in dimensions]:
        raise InputError(
            f"This judge rates {', '.join(dimensions)}, and is asked about {', '.join(strange)}; take a benchmark of "
            "the same dimensions."
        )
    return asked or tuple(dimensions)


def answer_to(question: ScoreQuestion, rated: Sequence[str], scores: Mapping[str, float]) -> Answer:
    """The answer that a judge in words would write: ``scores`` (0 to 100) in what is ``rated``, on the scale that is
    asked for, and within it; their mean where one number is asked for.
    """
    low, high = question.asked_on or question.scale or FULL
    # A number off the scale could not be read.
    told = {name: low + (high - low) * min(100.0, max(0.0, scores[name])) / 100 for name in rated}
    said = json.dumps(told if question.keys else statistics.fmean(told.values()))
    return Answer(f"<answer>{said}</answer>")


def by_logits(pair: VideoPair, judge_id: str, logits: Mapping[str, float]) -> Comparison:
    """The comparison of a pair whose first video is better in each dimension with these ``logits``."""
    logit = statistics.fmean(logits.values())
    verdict: Verdict = "first" if logit > 0 else "second" if logit < 0 else "tie"
    mirrored: Verdict = "second" if logit > 0 else "first" if logit < 0 else "tie"
    forward = OrderVerdict(text=_told(logits, 1), verdict=verdict, p=_sigmoid(logit))
    backward = OrderVerdict(text=_told(logits, -1), verdict=mirrored, p=_sigmoid(-logit))
    return Comparison.of(pair, judge_id, forward, backward, forward.p)


def _told(logits: Mapping[str, float], sign: int) -> str:
    said = ", ".join(f"{name} {_sigmoid(sign * logit):.3f}" for name, logit in logits.items())
    return f"Probability that the first is better: {said}."


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
