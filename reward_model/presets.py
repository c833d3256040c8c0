"""Judges as their authors publish them: where the weights lie, what they are asked and what they are shown.

VQ-Insight (weights ``ByteDance/Q-Insight``, Apache-2.0) has one checkpoint for each task, in a subfolder. Frames and
pixels are those of the authors' code: 2 frames a second, 4 to 16 of them, at most 128 * 28 * 28 pixels each.
The questions ask for what theirs ask for, in our words: the four aspects of a comparison and its answers "Video A" and
"Video B", the three dimensions and the scale of scores. Their exact wording can be put beside the weights as
``judge_prompt.json`` or ``score_prompt.json``, and goes before the preset's.
"""

from dataclasses import dataclass, replace

from reward_model.prompts import DEFAULT_PROMPT, DEFAULT_VIDEO_PROMPTS, JudgePrompt, VideoPrompt
from videoduet.video import FrameSampling

_SHOWN = {"frames": FrameSampling(fps=2, min_frames=4, max_frames=16), "max_pixels": 128 * 28 * 28}


@dataclass(frozen=True)
class Preset:
    """What a published judge is made for; None is what it is not made for. ``subfolder`` holds its weights."""

    subfolder: str | None = None
    compare: JudgePrompt | None = None
    score: VideoPrompt | None = None
    describe: VideoPrompt | None = None


_THINK = "Think it over like a person in <think></think>, then answer in <answer></answer>. "
_DESCRIBE = replace(DEFAULT_VIDEO_PROMPTS["describe"], **_SHOWN, max_new_tokens=1024)

PRESETS = {
    "vqinsight-comp": Preset(
        "vqinsight-comp",
        compare=JudgePrompt(
            system=None,
            before_first="Video A:",
            before_second="Video B:",
            question=(
                "Two AI-generated videos are shown. Which is better in visual quality, temporal consistency, dynamic "
                f"degree and authenticity? {_THINK}The answer is 'Video A' or 'Video B' and nothing else."
            ),
            # The words before the letter take a token of their own, and the letter one with the space before it.
            labels=(" A", " B"),
            max_new_tokens=1024,
            **_SHOWN,
        ),
        describe=_DESCRIBE,
    ),
    "vqinsight-aigcvideo": Preset(
        "vqinsight-aigcvideo",
        score=VideoPrompt(
            system=None,
            before="",
            question=(
                "Rate this AI-generated video from 0 to 100 in spatial quality, temporal quality and consistency with "
                f"the prompt it was made for: {{prompt}}\n{_THINK}The answer is JSON with the keys "
                '"spatial", "temporal" and "consistency".'
            ),
            keys=("spatial", "temporal", "consistency"),
            max_new_tokens=1024,
            **_SHOWN,
        ),
        describe=_DESCRIBE,
    ),
    "vqinsight-naturalvideo": Preset(
        "vqinsight-naturalvideo",
        score=VideoPrompt(
            system=None,
            before="",
            question=f"Rate the quality of this video with a number from 0 to 100. {_THINK}",
            max_new_tokens=1024,
            **_SHOWN,
        ),
        describe=_DESCRIBE,
    ),
    "general": Preset(
        compare=DEFAULT_PROMPT, score=DEFAULT_VIDEO_PROMPTS["score"], describe=DEFAULT_VIDEO_PROMPTS["describe"]
    ),
}
"""By name; ``general`` is for any Qwen2.5-VL or Qwen3-VL that follows instructions."""
