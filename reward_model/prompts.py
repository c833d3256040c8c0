"""What a judge is asked: the words around its videos, how an answer names them, and how much of them it is shown."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

from reward_model.questions import (
    CompareQuestion,
    DescribeQuestion,
    OptionQuestion,
    ScoreQuestion,
    View,
    chat,
    plain,
)
from videoduet.errors import InputError
from videoduet.loading import loading
from videoduet.store import JSON, read_json, write_json
from videoduet.video import FrameSampling, Sampling

Kind = Literal["compare", "score", "describe"]
PROMPT_FILES: dict[Kind, str] = {
    "compare": "judge_prompt.json", "score": "score_prompt.json", "describe": "describe_prompt.json",
}  # fmt: skip
"""What a judge is asked may be kept beside its weights."""
OPTIONS = ("frames", "max_pixels", "layout", "read_as", "answer")


class _Wording:
    """What prompts have in common: how they are kept beside a judge's weights, and how they are filled in."""

    # Those below are dataclasses with these fields; this is none, as its fields would come before theirs.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    num_frames: int
    max_new_tokens: int
    frames: FrameSampling | None
    max_pixels: int | None
    layout: str | None

    @property
    def sampling(self) -> Sampling:
        """Which frames are shown: ``frames`` where it is given, else ``num_frames`` of them."""
        return self.frames or self.num_frames

    @property
    def view(self) -> View:
        """How much of its videos is shown, and how long an answer may be."""
        return View(self.sampling, self.max_pixels, self.max_new_tokens, self.layout)

    def fields(self) -> dict[str, Any]:
        """All that makes the prompt what it is; an option that is not used leaves no trace."""
        return {key: value for key, value in asdict(self).items() if key not in OPTIONS or value is not None}

    def save(self, directory: str | Path, kind: Kind = "compare") -> None:
        """Keep the prompt beside a judge's weights, as what it is asked to "compare", "score" or "describe"."""
        write_json(Path(directory) / PROMPT_FILES[kind], self.fields())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A prompt from a JSON file. Raises InputError where it is none."""
        with loading(f"The judge's wording {path} cannot be read", "download it anew, or take it away."):
            kept: dict[str, JSON] = read_json(path)
            fields: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()
            }
            if fields.get("frames"):
                fields["frames"] = FrameSampling(**fields["frames"])
            return cls(**fields)


@dataclass(frozen=True)
class JudgePrompt(_Wording):
    """The wording of a comparison.

    ``question`` may hold ``{prompt}``, the text the videos were drawn from. ``labels`` are how the answer names the
    first and the second video; each must be one token, so that their logits can be compared.
    ``num_frames`` is how many evenly spaced frames of each are shown, unless ``frames`` says how many a second;
    ``max_pixels`` is the most pixels a frame is shown with (None: what the model's processor says); ``layout`` names
    how frames are written, where a family knows several ways: InternVL's
    (:data:`reward_model.families.internvl.LAYOUTS`), and of Qwen's ``images``, every frame an image of its own.
    ``read_as`` names a rule of :mod:`reward_model.published_answers`, for a judge whose answers have their own form.
    """

    system: str | None
    before_first: str
    before_second: str
    question: str
    labels: tuple[str, str] = ("1", "2")
    num_frames: int = 8
    max_new_tokens: int = 512
    frames: FrameSampling | None = None
    max_pixels: int | None = None
    layout: str | None = None
    read_as: str | None = None

    def messages(self, prompt: str, first_path: str, second_path: str) -> list[dict[str, Any]]:
        """The chat messages of one showing; videos are named by path and decoded only where pixels are needed."""
        content = [
            {"type": "text", "text": self.before_first},
            {"type": "video", "video": first_path},
            {"type": "text", "text": self.before_second},
            {"type": "video", "video": second_path},
            {"type": "text", "text": self.question.replace("{prompt}", plain(prompt))},
        ]
        return chat(self.system, [part for part in content if part.get("text") != ""])

    def compare(self, prompt: str, first_path: str, second_path: str) -> CompareQuestion:
        """Which of two videos is better, in this order."""
        messages = self.messages(prompt, first_path, second_path)
        return CompareQuestion(messages=messages, view=self.view, labels=self.labels, read_as=self.read_as)

    @classmethod
    def load(cls, directory: str | Path) -> "JudgePrompt":
        """The prompt kept beside a judge's weights, or the default one where there is none."""
        path = Path(directory) / PROMPT_FILES["compare"]
        return cls.read(path) if path.exists() else DEFAULT_PROMPT


@dataclass(frozen=True)
class VideoPrompt(_Wording):
    """The wording of a question about one video: for a description, or for a score.

    ``question`` may hold ``{prompt}``. A score is a number within ``scale``, or one for each of ``keys`` where there
    are any; a description needs neither. ``answer`` is how an answer begins, of a judge that reads a score from what
    comes to it before the next word; it and ``question`` may hold ``{dimension}``, one of ``keys``. The rest is as in
    :class:`JudgePrompt`.
    """

    system: str | None
    before: str
    question: str
    keys: tuple[str, ...] = ()
    scale: tuple[float, float] = (0.0, 100.0)
    num_frames: int = 8
    max_new_tokens: int = 512
    frames: FrameSampling | None = None
    max_pixels: int | None = None
    layout: str | None = None
    read_as: str | None = None
    answer: str | None = None

    def messages(self, prompt: str, path: str) -> list[dict[str, Any]]:
        """The chat messages of one showing."""
        question = {"type": "text", "text": self.question.replace("{prompt}", plain(prompt))}
        content = [{"type": "text", "text": self.before}, {"type": "video", "video": path}, question]
        return chat(self.system, [part for part in content if part.get("text") != ""])

    def about(self, dimension: str) -> "VideoPrompt":
        """The same, asked about one ``dimension``."""
        named = {name: _fill(getattr(self, name) or "", dimension=dimension) for name in ("question", "answer")}
        return replace(self, keys=(dimension,), **named)

    def score(self, prompt: str, path: str) -> ScoreQuestion:
        """How good a video is."""
        return ScoreQuestion(
            messages=self.messages(prompt, path), view=self.view, prompt=prompt,
            keys=self.keys, scale=self.scale, read_as=self.read_as,
        )  # fmt: skip

    def describe(self, prompt: str, path: str) -> DescribeQuestion:
        """What a video shows."""
        return DescribeQuestion(messages=self.messages(prompt, path), view=self.view)


@dataclass(frozen=True, kw_only=True)
class TaskPrompts:
    """The wording of questions about the items of a data set; comparisons have their own, the :class:`JudgePrompt`.

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

    def rate(
        self, path: str, prompt: str | None, names: Sequence[str], scale: tuple[float, float], view: View
    ) -> ScoreQuestion:
        """How good a video is in each of ``names`` (a single one goes without name) on ``scale``; ``prompt`` is what it
        was generated from (None: it was filmed).

        Any number is an answer: how far off the scale it lies is for rewards to weigh; metrics leave it out.
        """
        low, high = (f"{bound:g}" for bound in scale)
        before = "" if prompt is None else _fill(self.prompted, prompt=plain(prompt))
        if len(names) == 1:
            asked, keys, about = _fill(self.score, low=low, high=high), (), names[0]
        else:
            example = ", ".join(f'"{name}": {high}' for name in names)
            several = {"dimensions": ", ".join(names), "example": f"{{{example}}}"}
            asked, keys, about = _fill(self.dimensions, low=low, high=high, **several), tuple(names), None
        messages = self._messages([path], before + asked)
        return ScoreQuestion(messages=messages, view=view, keys=keys, prompt=prompt or "", about=about, asked_on=scale)

    def choose(self, paths: Sequence[str], question: str, options: Sequence[str], view: View) -> OptionQuestion:
        """Which of ``options`` answers ``question`` about the videos at ``paths``."""
        named = " or ".join(options) if len(options) == 2 else ", ".join(options)
        text = _fill(self.question, question=plain(question), options=named)
        return OptionQuestion(messages=self._messages(paths, text), view=view, options=tuple(options))

    def _messages(self, paths: Sequence[str], text: str) -> list[dict[str, Any]]:
        return chat(
            self.system, [*({"type": "video", "video": path} for path in paths), {"type": "text", "text": text}]
        )


def _fill(template: str, **values: str) -> str:
    # Not str.format: a template holds JSON's braces, and a value may hold anything.
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


@dataclass(frozen=True)
class Prompts:
    """What a judge is asked for each kind of question; None where it is not made for it."""

    compare: JudgePrompt | None = None
    score: VideoPrompt | None = None
    describe: VideoPrompt | None = None

    @overload
    def of(self, kind: Literal["compare"]) -> JudgePrompt: ...
    @overload
    def of(self, kind: Literal["score", "describe"]) -> VideoPrompt: ...
    def of(self, kind: Kind) -> JudgePrompt | VideoPrompt:
        """The wording of a kind of question. Raises InputError where the judge is not made for it."""
        if (prompt := getattr(self, kind)) is None:
            raise InputError(f"This judge is not made to {kind}; take another preset or judge.", exit_code=2)
        return prompt

    @property
    def view(self) -> View:
        """How much is shown where a question is another's wording: as in a comparison, a score or a description, the
        first of these that the judge is made for. Raises InputError where it is made for nothing.
        """
        return (self.compare or self.score or self.of("describe")).view

    @property
    def compare_id(self) -> str:
        """A hash of how the judge compares, which is part of its name ("": it does not)."""
        return wording_id(self.compare) if self.compare else ""


def wording_id(prompt: JudgePrompt | VideoPrompt) -> str:
    """A hash of all that a judge is asked and shown: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(prompt.fields(), sort_keys=True).encode()).hexdigest()


DEFAULT_PROMPT = JudgePrompt(
    system="You compare AI-generated videos. Think inside <think></think>; then answer inside <answer></answer>.",
    before_first="Video 1:",
    before_second="Video 2:",
    question=(
        "Both videos were generated from this prompt: {prompt}\n"
        "Which is better in visual quality, temporal consistency, dynamic degree and agreement with the prompt? "
        "Reason about each in <think></think>, then give only the number of the better video, 1 or 2, in "
        "<answer></answer>."
    ),
)
"""For a general vision-language model such as Qwen2.5-VL."""

DEFAULT_VIDEO_PROMPTS = {
    "score": VideoPrompt(
        system="You rate videos. Think inside <think></think>; then answer inside <answer></answer>.",
        before="",
        question=(
            "This video was made for the prompt: {prompt}\n"
            "Rate its quality as a viewer would: sharpness, noise, artefacts, motion, agreement with the prompt. "
            "Reason in <think></think>, then give one number from 0 (worst) to 100 (best) in <answer></answer>."
        ),
    ),
    "describe": VideoPrompt(
        system=None,
        before="",
        question=(
            "Describe this video: what is seen, how it moves, how good its picture and its motion are, and what is "
            "wrong with it."
        ),
    ),
}
"""For a general vision-language model."""
