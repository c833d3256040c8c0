"""Rewards for GRPO, as pure functions. Names follow the papers."""

import re

from reward_model.parsing import Choice

_FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


def format_reward(text: str) -> float:
    """1.0 where a completion is ``<think>…</think><answer>…</answer>`` from its first character to its last, else 0.0.

    VQ-Insight's format reward, as released: it says nothing about what is inside the tags.
    """
    return float(_FORMAT.fullmatch(text) is not None)


def comparison_reward(choice: Choice | None, preferred: Choice) -> float:
    """1.0 where the choice is the preferred video, else 0.0; an unparsable answer earns nothing (VQ-Insight, eq. 5)."""
    return float(choice == preferred)
