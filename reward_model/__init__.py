"""Judges videos: what they are asked, what they answer, judges of many kinds, rewards, GRPO."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reward_model.judging.base import Failure, PairwiseJudge, VideoJudge
    from reward_model.judging.build import build_judge
    from reward_model.judging.config import Decoding
    from reward_model.judging.local import Judge
    from reward_model.presets import PRESETS
    from reward_model.prompts import JudgePrompt, VideoPrompt

__all__ = [
    "PRESETS",
    "Decoding",
    "Failure",
    "Judge",
    "JudgePrompt",
    "PairwiseJudge",
    "VideoJudge",
    "VideoPrompt",
    "build_judge",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "judging.base": ["Failure", "PairwiseJudge", "VideoJudge"],
        "judging.build": ["build_judge"],
        "judging.config": ["Decoding"],
        "judging.local": ["Judge"],
        "presets": ["PRESETS"],
        "prompts": ["JudgePrompt", "VideoPrompt"],
    },
)
