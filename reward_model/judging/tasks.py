"""What a judge is asked about an item of a data set, and what would be right: one form for training and evaluation."""

from dataclasses import dataclass
from typing import Any

from reward_model.datasets import Item, PreferenceItem, QuestionItem, ScoredClip
from reward_model.prompts import JudgePrompt

Scale = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TaskPrompts:
    """The wording of questions about one video (comparisons have their own, the judge's :class:`JudgePrompt`).

    Attributes:
        system: What the judge is, and how it answers (empty: nothing is said).
        score: Asks for a score from ``{low}`` to ``{high}``.
        dimensions: Asks for scores in ``{dimensions}``, as JSON such as ``{example}``.
        prompted: Goes before either where the video was generated from ``{prompt}``.
        question: Goes around ``{question}``, whose answer is one of ``{options}``.
    """

    system: str = "You judge videos. Think inside <think></think>; then answer inside <answer></answer>."
    score: str = (
        "Rate the quality of this video from {low} (bad) to {high} (excellent). Weigh what you see in "
        "<think></think>, then give only the number in <answer></answer>."
    )
    dimensions: str = (
        "Rate this video from {low} (bad) to {high} (excellent) in each of: {dimensions}. Weigh what you see in "
        "<think></think>, then give only JSON in <answer></answer>, such as <answer>{example}</answer>."
    )
    prompted: str = "This video was generated from the text: {prompt}\n"
    question: str = (
        "{question}\nWeigh what you see in <think></think>, then give only one of {options} in <answer></answer>."
    )


def task_messages(item: Item, scale: Scale, prompts: TaskPrompts, judge_prompt: JudgePrompt) -> list[dict]:
    """The chat messages that ask about ``item``; scores are asked for on ``scale``.

    An image is shown as a video of one frame.
    """
    if isinstance(item, PreferenceItem):
        return judge_prompt.messages(item.prompt, item.first, item.second)
    if isinstance(item, QuestionItem):
        options = " or ".join(item.options) if len(item.options) == 2 else ", ".join(item.options)
        text, paths = _fill(prompts.question, question=_plain(item.question), options=options), item.paths
    else:
        before = "" if item.prompt is None else _fill(prompts.prompted, prompt=_plain(item.prompt))
        text, paths = before + _score_question(item, scale, prompts), (item.path,)
    content = [*({"type": "video", "video": path} for path in paths), {"type": "text", "text": text}]
    system = [{"role": "system", "content": [{"type": "text", "text": prompts.system}]}] if prompts.system else []
    return [*system, {"role": "user", "content": content}]


def _score_question(item: ScoredClip, scale: Scale, prompts: TaskPrompts) -> str:
    low, high = (f"{bound:g}" for bound in scale)
    if len(item.scores) == 1:
        return _fill(prompts.score, low=low, high=high)
    example = ", ".join(f'"{name}": {high}' for name in item.scores)
    return _fill(prompts.dimensions, low=low, high=high, dimensions=", ".join(item.scores), example=f"{{{example}}}")


def _fill(template: str, **values: str) -> str:
    # Not str.format: a template holds JSON's braces, and a value may hold anything.
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _plain(text: str) -> str:
    # What looks like a control token in somebody's text must not act as one.
    return text.replace("<|", "< |").replace("|>", "| >")


def rescaled(value: float, given: Scale, asked: Scale) -> float:
    """A score on the scale ``given``, moved to the scale ``asked``."""
    return asked[0] + (value - given[0]) / (given[1] - given[0]) * (asked[1] - asked[0])


def right_answer(item: Item, given: Scale | None, asked: Scale) -> dict[str, Any]:
    """What would be right, as plain data: ``kind``, and the target scores on the scale ``asked``, the preferred video
    (None: people saw a tie) or the right option.
    """
    if isinstance(item, PreferenceItem):
        label = item.preferred["overall"]
        return {"kind": "preference", "preferred": None if label == "tie" else label}
    if isinstance(item, QuestionItem):
        return {"kind": "question", "options": list(item.options), "preferred": item.answer}
    targets = {name: rescaled(score, given, asked) for name, score in item.scores.items()}
    if len(targets) == 1:
        return {"kind": "score", "target": next(iter(targets.values()))}
    return {"kind": "dimensions", "targets": targets}
