"""What a judge is asked: the words around two videos, and how its answer names them."""

from dataclasses import asdict, dataclass
from pathlib import Path

from videoduet.store import read_json, write_json

FILE_NAME = "judge_prompt.json"


@dataclass(frozen=True)
class JudgePrompt:
    """The wording of a comparison.

    ``question`` may hold ``{prompt}``, the text the videos were drawn from. ``labels`` are how the answer names the
    first and the second video; each must be one token, so that their logits can be compared.
    ``num_frames`` is how many evenly spaced frames of each video are shown.
    """

    system: str | None
    before_first: str
    before_second: str
    question: str
    labels: tuple[str, str] = ("1", "2")
    num_frames: int = 8
    max_new_tokens: int = 512

    def messages(self, prompt: str, first_path: str, second_path: str) -> list[dict]:
        """The chat messages of one showing; videos are named by path and decoded only where pixels are needed."""
        # A prompt is text that somebody wrote: what looks like a control token in it must not act as one.
        prompt = prompt.replace("<|", "< |").replace("|>", "| >")
        content = [
            {"type": "text", "text": self.before_first},
            {"type": "video", "video": first_path},
            {"type": "text", "text": self.before_second},
            {"type": "video", "video": second_path},
            {"type": "text", "text": self.question.replace("{prompt}", prompt)},
        ]
        system = [{"role": "system", "content": [{"type": "text", "text": self.system}]}] if self.system else []
        return [*system, {"role": "user", "content": content}]

    def save(self, directory: str | Path) -> None:
        write_json(Path(directory) / FILE_NAME, asdict(self))

    @classmethod
    def load(cls, directory: str | Path) -> "JudgePrompt":
        """The prompt kept beside a judge's weights, or the default one where there is none."""
        path = Path(directory) / FILE_NAME
        if not path.exists():
            return DEFAULT_PROMPT
        fields = read_json(path)
        return cls(**{**fields, "labels": tuple(fields["labels"])})


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
