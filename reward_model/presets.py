"""Judges as their authors publish them: where the weights lie, what they are asked and what they are shown.

VQ-Insight (weights ``ByteDance/Q-Insight``, Apache-2.0) has one checkpoint for each task, in a subfolder. Frames and
pixels are those of the authors' code: 2 frames a second, 4 to 16 of them, at most 128 * 28 * 28 pixels each.
The questions ask for what theirs ask for, in our words: the four aspects of a comparison and its answers "Video A" and
"Video B", the three dimensions and the scale of scores. Their exact wording can be put beside the weights as
``judge_prompt.json`` or ``score_prompt.json``, and goes before the preset's.

VQAThinker (weights converted by ``pipelines.convert_judge vqathinker``) is asked to the letter what its authors ask, as
every token of it is part of what it learned: ``vqathinker`` as in their test (12 frames of 560x560), and
``vqathinker-train`` as in their training (6 of 448x448), whose text differs in spaces and line breaks. So is
AIGV-Assessor (``aigv-assessor``, converted by ``pipelines.convert_judge aigv_assessor``), which answers in numbers: 8
frames of 448x448, one question for each of its four dimensions.

UnifiedReward, VideoScore2 and Q-Insight are in :mod:`reward_model.published_prompts`, to the letter.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from reward_model.prompts import (
    DEFAULT_PROMPT,
    DEFAULT_VIDEO_PROMPTS,
    PROMPT_FILES,
    JudgePrompt,
    Prompts,
    VideoPrompt,
)
from reward_model.published_prompts import PUBLISHED
from videoduet.errors import InputError
from videoduet.video import FrameSampling


class _Shown(TypedDict):
    frames: FrameSampling
    max_pixels: int


_SHOWN: _Shown = {"frames": FrameSampling(fps=2, min_frames=4, max_frames=16), "max_pixels": 128 * 28 * 28}


@dataclass(frozen=True)
class Preset:
    """What a published judge is asked, the ``subfolder`` that holds its weights (None: they lie at the top), and
    whether it has a sense of ``motion``.
    """

    prompts: Prompts
    subfolder: str | None = None
    motion: bool = False

    @property
    def numbers(self) -> bool:
        """Whether it answers in numbers, not in words."""
        return self.prompts.score is not None and self.prompts.score.answer is not None

    @property
    def compares(self) -> bool:
        """Whether it can be asked about two videos, in words or by numbers."""
        return self.prompts.compare is not None or self.numbers


_THINK = "Think it over like a person in <think></think>, then answer in <answer></answer>. "
_DESCRIBE = replace(DEFAULT_VIDEO_PROMPTS["describe"], **_SHOWN, max_new_tokens=1024)

_INTERNVL = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
"""What InternVL is told that it is, where nothing else is said."""
_RATE = (
    "You are doing the video quality assessment task. Here is the question: What is your overall rating on the quality "
    "of this video? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 representing "
    "very poor quality and 5 representing excellent quality."
)
_REASON = (
    "First output the thinking process in <think> </think> tags and then output the final answer in <answer> </answer> "
    "tags."
)


def _vqathinker(layout: str, question: str, num_frames: int, side: int) -> Preset:
    score = VideoPrompt(
        system=_INTERNVL, before="", question=question, scale=(1.0, 5.0), max_new_tokens=2048, num_frames=num_frames,
        max_pixels=side * side, layout=layout,
    )  # fmt: skip
    describe = replace(
        DEFAULT_VIDEO_PROMPTS["describe"], max_new_tokens=1024, num_frames=num_frames, max_pixels=side * side,
        layout=layout,
    )  # fmt: skip
    return Preset(Prompts(score=score, describe=describe), motion=True)


ASSESSED = ("static quality", "temporal smoothness", "dynamic degree", "text-video correspondence")
"""What AIGV-Assessor rates, in the order of its data (mos1 to mos4)."""
ASSESSMENT = VideoPrompt(
    system=(
        "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
    ),
    before="", question="How would you rate the {dimension} of this video?", answer="The {dimension} of the video is",
    keys=ASSESSED, scale=(0.0, 100.0), num_frames=8, max_pixels=448 * 448, layout="aigv-assessor",
)  # fmt: skip
"""What AIGV-Assessor is asked, about one dimension at a time, and how an answer begins."""

PRESETS = {
    "aigv-assessor": Preset(Prompts(score=ASSESSMENT)),
    "vqathinker": _vqathinker("vqathinker", f"{_RATE}{_REASON}", 12, 560),
    "vqathinker-train": _vqathinker("vqathinker-train", f"{_RATE} {_REASON}", 6, 448),
    "vqinsight-comp": Preset(
        Prompts(
            compare=JudgePrompt(
                system=None,
                before_first="Video A:",
                before_second="Video B:",
                question=(
                    "Two AI-generated videos are shown. Which is better in visual quality, temporal consistency, "
                    f"dynamic degree and authenticity? {_THINK}The answer is 'Video A' or 'Video B' and nothing else."
                ),
                # The words before the letter take a token of their own, and the letter one with the space before it.
                labels=(" A", " B"),
                max_new_tokens=1024,
                **_SHOWN,
            ),
            describe=_DESCRIBE,
        ),
        subfolder="vqinsight-comp",
    ),
    "vqinsight-aigcvideo": Preset(
        Prompts(
            score=VideoPrompt(
                system=None,
                before="",
                question=(
                    "Rate this AI-generated video from 0 to 100 in spatial quality, temporal quality and consistency "
                    f"with the prompt it was made for: {{prompt}}\n{_THINK}The answer is JSON with the keys "
                    '"spatial", "temporal" and "consistency".'
                ),
                keys=("spatial", "temporal", "consistency"),
                max_new_tokens=1024,
                **_SHOWN,
            ),
            describe=_DESCRIBE,
        ),
        subfolder="vqinsight-aigcvideo",
    ),
    "vqinsight-naturalvideo": Preset(
        Prompts(
            score=VideoPrompt(
                system=None,
                before="",
                question=f"Rate the quality of this video with a number from 0 to 100. {_THINK}",
                max_new_tokens=1024,
                **_SHOWN,
            ),
            describe=_DESCRIBE,
        ),
        subfolder="vqinsight-naturalvideo",
    ),
    "general": Preset(
        Prompts(DEFAULT_PROMPT, score=DEFAULT_VIDEO_PROMPTS["score"], describe=DEFAULT_VIDEO_PROMPTS["describe"])
    ),
    **{name: Preset(prompts, subfolder) for name, (prompts, subfolder) in PUBLISHED.items()},
}
"""By name; ``general`` is for any Qwen2.5-VL, Qwen3-VL or InternVL that follows instructions."""


def preset_named(name: str | None) -> Preset:
    """The preset of that name (None: the general one). Raises InputError where there is none."""
    if name is not None and name not in PRESETS:
        raise InputError(f"There is no preset {name}; take one of {', '.join(PRESETS)}.", exit_code=2)
    return PRESETS[name or "general"]


def kept_prompts(directory: str | Path, prompts: Prompts) -> Prompts:
    """``prompts`` with those that are kept beside a judge's weights in place of its own."""
    files = {kind: Path(directory) / name for kind, name in PROMPT_FILES.items()}
    return replace(
        prompts,
        **{
            kind: (JudgePrompt if kind == "compare" else VideoPrompt).read(file)
            for kind, file in files.items()
            if file.exists()
        },
    )
