"""Judges as their authors publish them: where the weights lie, what they are asked and what they are shown.

VQ-Insight (weights ``ByteDance/Q-Insight``, Apache-2.0) has one checkpoint for each task, in a subfolder. Frames and
pixels are those of the authors' code: 2 frames a second, 4 to 16 of them, at most 128 * 28 * 28 pixels each.
The questions ask for what theirs ask for, in our words: the four aspects of a comparison and its answers "Video A" and
"Video B", the three dimensions and the scale of scores. Their exact wording can be put beside the weights as
``judge_prompt.json`` or ``score_prompt.json``, and goes before the preset's.
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
from videoduet.errors import InputError
from videoduet.video import FrameSampling


class _Shown(TypedDict):
    frames: FrameSampling
    max_pixels: int


_SHOWN: _Shown = {"frames": FrameSampling(fps=2, min_frames=4, max_frames=16), "max_pixels": 128 * 28 * 28}


@dataclass(frozen=True)
class Preset:
    """What a published judge is asked, and the ``subfolder`` that holds its weights (None: they lie at the top)."""

    prompts: Prompts
    subfolder: str | None = None


_THINK = "Think it over like a person in <think></think>, then answer in <answer></answer>. "
_DESCRIBE = replace(DEFAULT_VIDEO_PROMPTS["describe"], **_SHOWN, max_new_tokens=1024)

PRESETS = {
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
