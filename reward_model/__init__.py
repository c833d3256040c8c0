"""Judges videos: prompts, parsing, judges, rewards, GRPO."""

from reward_model.judge import Judge, PairwiseJudge
from reward_model.presets import PRESETS
from reward_model.prompts import JudgePrompt, VideoPrompt
from reward_model.video_judge import Decoding, Failure, VideoJudge

__all__ = ["PRESETS", "Decoding", "Failure", "Judge", "JudgePrompt", "PairwiseJudge", "VideoJudge", "VideoPrompt"]
