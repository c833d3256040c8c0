"""What a judge is asked about an item of a data set, and what would be right: one form for training and evaluation."""

from typing import Any

from reward_model.datasets import Item, PreferenceItem, QuestionItem, ScoredClip
from reward_model.prompts import Prompts, TaskPrompts
from reward_model.questions import Question, ScoreQuestion
from videoduet.errors import InputError

Scale = tuple[float, float]


def question_about(item: Item, scale: Scale, wording: TaskPrompts, prompts: Prompts) -> Question:
    """What is asked about ``item``: a pair as ``prompts`` compare, anything else in ``wording``, with scores asked for
    on ``scale``, and shown as ``prompts`` show.

    An image is shown as a video of one frame. Raises InputError where a judge with these prompts cannot be asked.
    """
    if isinstance(item, PreferenceItem):
        return prompts.of("compare").compare(item.prompt, item.first, item.second)
    if isinstance(item, QuestionItem):
        return wording.choose(item.paths, item.question, item.options, prompts.view)
    return wording.rate(item.path, item.prompt, tuple(item.scores), scale, prompts.view)


def own_question_about(item: ScoredClip, prompts: Prompts) -> ScoreQuestion | None:
    """The same in the judge's own words, where it is made to score what the item is scored in; else None."""
    own, names = prompts.score, tuple(item.scores)
    if own is None or (set(own.keys) != set(names) if own.keys else len(names) > 1):
        return None
    return own.score(item.prompt or "", item.path)


def rescaled(value: float, given: Scale, asked: Scale) -> float:
    """A score on the scale ``given``, moved to the scale ``asked``."""
    return asked[0] + (value - given[0]) / (given[1] - given[0]) * (asked[1] - asked[0])


def right_answer(item: Item, given: Scale | None, asked: Scale) -> dict[str, Any]:
    """What would be right, as plain data: ``kind``, and the target scores on the scale ``asked``, the preferred video
    (None: people saw a tie) or the right option.
    """
    if isinstance(item, PreferenceItem):
        if "overall" not in item.preferred:
            raise InputError(
                f"The pair of {item.first} and {item.second} is labelled by dimension alone; learn from such with "
                "assessor.stage: pairs."
            )
        label = item.preferred["overall"]
        return {"kind": "preference", "preferred": None if label == "tie" else label}
    if isinstance(item, QuestionItem):
        return {"kind": "question", "options": list(item.options), "preferred": item.answer}
    assert given is not None, "a scored clip comes from a data set with a scale"
    targets = {name: rescaled(score, given, asked) for name, score in item.scores.items()}
    if len(targets) == 1:
        return {"kind": "score", "target": next(iter(targets.values()))}
    return {"kind": "dimensions", "targets": targets}
