"""Judges videos: what they are asked, what they answer, judges of many kinds, rewards, GRPO."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reward_model.judging.base import Decoding, Failure, VideoJudge
    from reward_model.judging.local import Judge, PairwiseJudge
    from reward_model.presets import PRESETS
    from reward_model.prompts import JudgePrompt, VideoPrompt

__all__ = ["PRESETS", "Decoding", "Failure", "Judge", "JudgePrompt", "PairwiseJudge", "VideoJudge", "VideoPrompt"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "judging.base": ["Decoding", "Failure", "VideoJudge"],
        "judging.local": ["Judge", "PairwiseJudge"],
        "presets": ["PRESETS"],
        "prompts": ["JudgePrompt", "VideoPrompt"],
    },
)
