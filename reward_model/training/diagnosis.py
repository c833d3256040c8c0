"""What a training of a judge did not learn, said in sentences."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

CUT_SHARE = 0.2
"""Of the answers, from which on their cutting is said."""
EQUAL_SHARE = 0.9
"""Of the groups, from which on the equality of their rewards is said."""


def diagnose(log: Sequence[Mapping[str, Any]], max_new_tokens: int) -> list[str]:
    """What kept a finished training from learning, and what to change; nothing where nothing did.

    ``log`` is the trainer's, a row a step; ``max_new_tokens`` the longest answer.
    """
    notes: list[str] = []
    cut, equal = (_mean(log, name) for name in ("completions/clipped_ratio", "frac_reward_zero_std"))
    if cut >= CUT_SHARE:
        notes.append(
            f"{cut:.0%} of the answers were cut at {max_new_tokens} tokens, before they had said all that is rewarded; "
            "raise max_new_tokens."
        )
    if equal >= EQUAL_SHARE:
        notes.append(
            f"In {equal:.0%} of the groups all answers had the same reward, which teaches nothing; "
            + ("mend that first." if cut >= CUT_SHARE else "give harder data (hard_pairs), or more num_generations.")
        )
    gradients = [float(row["grad_norm"]) for row in log if "grad_norm" in row]
    if gradients and not any(gradients):
        notes.append(f"The judge learned nothing: the gradient was zero in all {len(gradients)} steps.")
    return notes


def _mean(log: Sequence[Mapping[str, Any]], name: str) -> float:
    return fmean(values) if (values := [float(row[name]) for row in log if name in row]) else 0.0
