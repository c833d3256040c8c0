"""What becomes of a judge's wording: what a trained judge is asked from then on, and what is shown in its place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from reward_model.prompts import DEFAULT_PROMPT, DEFAULT_VIDEO_PROMPTS, JudgePrompt, Prompts, TaskPrompts, VideoPrompt
from videoduet.video import FrameSampling

Wording = TypeVar("Wording", JudgePrompt, VideoPrompt)

DIRECT = TaskPrompts(
    system="You judge videos. Answer inside <answer></answer>.",
    score=(
        "Rate the quality of this video from {low} (bad) to {high} (excellent). Give only the number in "
        "<answer></answer>."
    ),
    dimensions=(
        "Rate this video from {low} (bad) to {high} (excellent) in each of: {dimensions}. Give only JSON in "
        "<answer></answer>, such as <answer>{example}</answer>."
    ),
    question="{question}\nGive only one of {options} in <answer></answer>.",
)
"""Asks for answers without a thought before them."""

DIRECT_COMPARISON = replace(
    DEFAULT_PROMPT,
    system="You compare AI-generated videos. Answer inside <answer></answer>.",
    question=(
        "Both videos were generated from this prompt: {prompt}\n"
        "Which is better in visual quality, temporal consistency, dynamic degree and agreement with the prompt? "
        "Give only the number of the better video, 1 or 2, in <answer></answer>."
    ),
)
"""The same of a comparison."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown of a video in place of what a judge's prompts say; None: as they say.

    Attributes:
        num_frames: Evenly spaced frames.
        frames: Frames by their rate; goes before ``num_frames``.
        max_pixels: The most pixels of a frame.
        max_new_tokens: The longest answer.
        layout: How frames are written.
    """

    num_frames: int | None = None
    frames: FrameSampling | None = None
    max_pixels: int | None = None
    max_new_tokens: int | None = None
    layout: str | None = None

    def of(self, prompt: Wording) -> Wording:
        """``prompt`` with this shown."""
        changed: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        # A number of frames would have no effect where a rate goes before it.
        if self.num_frames is not None and self.frames is None:
            changed["frames"] = None
        return replace(prompt, **changed)

    def in_all(self, prompts: Prompts) -> Prompts:
        """``prompts`` with this shown in every kind of question."""
        compare, score, describe = prompts.compare, prompts.score, prompts.describe
        return Prompts(compare and self.of(compare), score and self.of(score), describe and self.of(describe))


def as_asked(
    wording: TaskPrompts, names: Sequence[str], scale: tuple[float, float], *, prompted: bool, shown: JudgePrompt
) -> VideoPrompt:
    """The prompt that asks any video what ``wording`` asks of a data set's: for a score in each of ``names`` on
    ``scale``, with what the video was generated from where it is ``prompted``; shown as ``shown`` says.
    """
    asked = wording.rate("", "{prompt}" if prompted else None, tuple(names), scale, shown.view)
    (text,) = (part["text"] for part in asked.messages[-1]["content"] if part["type"] == "text")
    return VideoPrompt(
        system=wording.system or None, before="", question=text, keys=asked.keys, scale=scale,
        num_frames=shown.num_frames, max_new_tokens=shown.max_new_tokens, frames=shown.frames,
        max_pixels=shown.max_pixels, layout=shown.layout,
    )  # fmt: skip


def trained(kept: Prompts, compare: JudgePrompt, score: VideoPrompt | None) -> Prompts:
    """What a judge is asked after a training in ``compare`` and ``score``: what it was not trained in stays as it is in
    ``kept``, what was beside its weights. A description, which nothing trains, is shown what training showed.
    """
    describe = kept.describe or replace(
        DEFAULT_VIDEO_PROMPTS["describe"], num_frames=compare.num_frames, frames=compare.frames,
        max_pixels=compare.max_pixels, layout=compare.layout,
    )  # fmt: skip
    return Prompts(compare=compare, score=score or kept.score, describe=describe)


def save(prompts: Prompts, directory: str | Path) -> None:
    """Keep all of ``prompts`` beside a judge's weights."""
    if prompts.compare is not None:
        prompts.compare.save(directory, "compare")
    if prompts.score is not None:
        prompts.score.save(directory, "score")
    if prompts.describe is not None:
        prompts.describe.save(directory, "describe")
