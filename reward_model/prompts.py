"""What a judge is asked: the words around its videos, how an answer names them, and how much of them it is shown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from videoduet.store import read_json, write_json
from videoduet.video import FrameSampling, Sampling

PROMPT_FILES = {"compare": "judge_prompt.json", "score": "score_prompt.json", "describe": "describe_prompt.json"}
"""What a judge is asked may be kept beside its weights."""
OPTIONS = ("frames", "max_pixels")


class _Wording:
    """What prompts have in common: how they are kept beside a judge's weights, and how they are filled in."""

    @property
    def sampling(self) -> Sampling:
        """Which frames are shown: ``frames`` where it is given, else ``num_frames`` of them."""
        return self.frames or self.num_frames

    def fields(self) -> dict:
        """All that makes the prompt what it is; an option that is not used leaves no trace."""
        return {key: value for key, value in asdict(self).items() if key not in OPTIONS or value is not None}

    def save(self, directory: str | Path, kind: str = "compare") -> None:
        """Keep the prompt beside a judge's weights, as what it is asked to "compare", "score" or "describe"."""
        write_json(Path(directory) / PROMPT_FILES[kind], self.fields())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A prompt from a JSON file."""
        fields = read_json(path)
        if fields.get("frames"):
            fields["frames"] = FrameSampling(**fields["frames"])
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


def _plain(prompt: str) -> str:
    # A prompt is text that somebody wrote: what looks like a control token in it must not act as one.
    return prompt.replace("<|", "< |").replace("|>", "| >")


def _messages(system: str | None, content: Sequence[dict]) -> list[dict]:
    first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*first, {"role": "user", "content": list(content)}]


@dataclass(frozen=True)
class JudgePrompt(_Wording):
    """The wording of a comparison.

    ``question`` may hold ``{prompt}``, the text the videos were drawn from. ``labels`` are how the answer names the
    first and the second video; each must be one token, so that their logits can be compared.
    ``num_frames`` is how many evenly spaced frames of each video are shown, unless ``frames`` says how many a second;
    ``max_pixels`` is the most pixels a frame is shown with (None: what the model's processor says).
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

    def messages(self, prompt: str, first_path: str, second_path: str) -> list[dict]:
        """The chat messages of one showing; videos are named by path and decoded only where pixels are needed."""
        content = [
            {"type": "text", "text": self.before_first},
            {"type": "video", "video": first_path},
            {"type": "text", "text": self.before_second},
            {"type": "video", "video": second_path},
            {"type": "text", "text": self.question.replace("{prompt}", _plain(prompt))},
        ]
        return _messages(self.system, content)

    @classmethod
    def load(cls, directory: str | Path) -> "JudgePrompt":
        """The prompt kept beside a judge's weights, or the default one where there is none."""
        path = Path(directory) / PROMPT_FILES["compare"]
        return cls.read(path) if path.exists() else DEFAULT_PROMPT


@dataclass(frozen=True)
class VideoPrompt(_Wording):
    """The wording of a question about one video: for a description, or for a score.

    ``question`` may hold ``{prompt}``. A score is a number within ``scale``, or one for each of ``keys`` where there
    are any; a description needs neither. The rest is as in :class:`JudgePrompt`.
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

    def messages(self, prompt: str, path: str) -> list[dict]:
        """The chat messages of one showing."""
        question = {"type": "text", "text": self.question.replace("{prompt}", _plain(prompt))}
        before = [{"type": "text", "text": self.before}] if self.before else []
        content = [*before, {"type": "video", "video": path}, question]
        return _messages(self.system, content)


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
