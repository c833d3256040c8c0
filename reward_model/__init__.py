"""Judges videos: prompts, parsing, judges, rewards, GRPO."""

from reward_model.judge import Judge, PairwiseJudge
from reward_model.prompts import JudgePrompt

__all__ = ["Judge", "JudgePrompt", "PairwiseJudge"]
