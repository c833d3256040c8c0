"""Which frames the slow pathway sees, and how maps become a vector: as VQAThinker and AIGV-Assessor released it.

Both repeat each frame's maps some times, average windows over time and space (the head of SlowFast, made for 32 frames
of 256 pixels), and then average the windows. That is a weighted mean, in which the middle counts more: a plain one is
off by 0.7 and more. Here the weights are computed and nothing is repeated; the numbers agree to 1e-5.
"""

import math
from functools import cache

import torch
from torch import Tensor

from reward_model.motion.network import SHRINKS, STRIDE
from videoduet.errors import InputError

SLOW_WINDOW, FAST_WINDOW = 8, 32
"""Repeated frames that a window averages, by pathway."""
WINDOW = 7
"""Cells of a map, a side, that a window averages."""


def slow_indices(frames: int) -> list[int]:
    """Which of ``frames`` the slow pathway sees: ceil(T / 4) of them, from the first to the last, at equal distances
    rounded down. The releases say T // 4 (and T // 3 of 6), which is that number wherever they run at all.

    Raises InputError for fewer than four, of which the releases would show it none.
    """
    if frames < STRIDE:
        raise InputError(
            f"Motion cannot be seen in {frames} frames, since SlowFast's slow pathway takes one of every {STRIDE}; "
            f"show {STRIDE} or more (num_frames, frames)."
        )
    number = -(-frames // STRIDE)
    return [index * (frames - 1) // max(number - 1, 1) for index in range(number)]


def repeats(frames: int) -> int:
    """How often each frame's maps are repeated before windows of 8 (slow) and 32 (fast) average them.

    4 where the number of frames is a multiple of four from 8 on, as AIGV-Assessor (8) and VQAThinker's test (12) have
    it; 6 for 6, 7, 9 to 11, 13, 14 and 17, where its training (6) runs and those do not. Everywhere else no release
    runs, and it is 4, or as many as a window of either pathway needs.
    """
    slow = -(-frames // STRIDE)
    if frames % STRIDE == 0 and frames >= 2 * STRIDE:
        return 4
    if slow > 1 and frames // 3 == slow:
        return 6
    return max(4, math.ceil(SLOW_WINDOW / slow), math.ceil(FAST_WINDOW / frames))


@cache
def window_weights(length: int, window: int, repeated: int = 1) -> tuple[float, ...]:
    """What each of ``length`` positions counts in the mean of all windows of ``window``, each position being there
    ``repeated`` times in a row; they add up to 1.
    """
    total = length * repeated
    covered = [
        min(place + 1, window, total - place, total - window + 1)  # So many windows hold this place.
        for place in range(total)
    ]
    whole = sum(covered)
    return tuple(sum(covered[start : start + repeated]) / whole for start in range(0, total, repeated))


def check_size(height: int, width: int, window: int) -> None:
    """Raises InputError where frames are too small for a map of ``window`` cells a side: 193 pixels for 7."""
    least = SHRINKS * (window - 1) + 1
    if min(height, width) < least:
        raise InputError(
            f"Frames of {width}x{height} are too small for SlowFast, which averages {window}x{window} cells of "
            f"{SHRINKS} pixels; show them with {least} pixels a side or more."
        )


def pooled(maps: Tensor, span: int, repeated: int, window: int) -> Tensor:
    """``maps`` (B, C, T, h, w) averaged over windows of ``span`` repeated frames and ``window`` cells a side, and over
    the windows: (B, C) float32.
    """
    time, height, width = maps.shape[2:]
    by_axis = [window_weights(time, span, repeated), window_weights(height, window), window_weights(width, window)]
    weights = [torch.tensor(each, device=maps.device) for each in by_axis]
    return torch.einsum("bcthw,t,h,w->bc", maps.float(), *weights)
