"""The six temporal perturbations of VQAThinker (Cao et al. 2025, supplement "Details of Temporal Degradation").

Each keeps every picture it shows intact and spoils only the order: ``perturbation(frames, rng, strength=1.0)`` takes
frames (T, ...) of any kind and returns a new array of the same shape (a shortening drop: of fewer frames).
``strength`` in (0, 1] scales how many frames are affected; 1 is the paper's perturbation. The order always changes, so
that "the perturbed clip is worse" is never asked of two equal orders; fewer than two frames have no order to spoil and
come back as a copy. Raises ValueError for a strength outside (0, 1].

The paper fixes the window (w = 4) and jitter's reach (one frame), but not how many frames are duplicated or dropped:
here half of them, which is plain to see in 6 to 16 frames.
"""

from collections.abc import Callable

import numpy as np

WINDOW = 4
"""Frames in a window of :func:`local_shuffle`, the paper's w."""


def _apply(frames: np.ndarray, strength: float, draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """``frames`` in the order ``draw(T)`` (T frame indices), drawn again while that is the order they came in."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be in (0, 1], not {strength}")
    count = len(frames)
    order = np.arange(count)
    while count > 1 and np.array_equal(order, np.arange(count)):
        order = draw(count)
    return frames[order]


def _scaled(strength: float, whole: int, least: int) -> int:
    """How many of ``whole`` frames ``strength`` affects: at least ``least``, where there are so many."""
    return min(whole, max(least, round(strength * whole)))


def global_shuffle(frames: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random permutation of all frames; ``strength`` is the share of the frames that is permuted."""

    def draw(count: int) -> np.ndarray:
        order = np.arange(count)
        chosen = rng.choice(count, _scaled(strength, count, 2), replace=False)
        order[chosen] = rng.permutation(chosen)
        return order

    return _apply(frames, strength, draw)


def local_shuffle(frames: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random permutation within each of the ⌊T/4⌋ windows of 4 frames (one window of all where T < 4).

    Frames after the last whole window stay, as in the paper. ``strength`` is the share of the frames in windows that is
    permuted, each with those of its own window.
    """

    def draw(count: int) -> np.ndarray:
        order, window = np.arange(count), min(WINDOW, count)
        windowed = count // window * window
        chosen = rng.choice(windowed, _scaled(strength, windowed, 2), replace=False)
        for index in range(windowed // window):
            members = chosen[chosen // window == index]
            order[members] = rng.permutation(members)
        return order

    return _apply(frames, strength, draw)


def reverse(frames: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """All frames backwards; below ``strength`` 1, a stretch of that share of the clip, at a random place."""

    def draw(count: int) -> np.ndarray:
        length = _scaled(strength, count, 2)
        start = rng.integers(count - length + 1)
        order = np.arange(count)
        order[start : start + length] = order[start : start + length][::-1]
        return order

    return _apply(frames, strength, draw)


def jitter(frames: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Each frame replaced by its left neighbour, itself or its right neighbour, clamped at the ends.

    ``strength`` is the share of the frames that is so replaced.
    """

    def draw(count: int) -> np.ndarray:
        order = np.arange(count)
        chosen = rng.choice(count, _scaled(strength, count, 1), replace=False)
        order[chosen] += rng.integers(-1, 2, len(chosen))
        return order.clip(0, count - 1)

    return _apply(frames, strength, draw)


def duplicate(frames: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random frame, n times over, inserted at a random place; n random others dropped to keep the length.

    n is half of the frames, times ``strength``, at least 1. As the paper has it, the frame need not come from near the
    place where it is inserted.
    """

    def draw(count: int) -> np.ndarray:
        copies = _scaled(strength, max(count // 2, 1), 1)
        kept = np.sort(rng.choice(count, count - copies, replace=False))
        place = rng.integers(len(kept) + 1)
        return np.concatenate([kept[:place], np.full(copies, rng.integers(count)), kept[place:]])

    return _apply(frames, strength, draw)


def random_drop(
    frames: np.ndarray, rng: np.random.Generator, strength: float = 1.0, *, shorten: bool = False
) -> np.ndarray:
    """n random frames lost: half of them, times ``strength``, at least 1.

    ``shorten=True`` is the paper's: the clip is n frames shorter. By default a lost frame is shown as the last one that
    arrived (the first that arrives, at the beginning), as a player would: length and timing are kept, so length alone
    cannot give the perturbation away.
    """

    def draw(count: int) -> np.ndarray:
        lost = rng.choice(count, _scaled(strength, max(count // 2, 1), 1), replace=False)
        arrived = np.setdiff1d(np.arange(count), lost)
        if shorten:
            return arrived
        return arrived[(np.searchsorted(arrived, np.arange(count), side="right") - 1).clip(0)]

    return _apply(frames, strength, draw)


PERTURBATIONS: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function for function in (global_shuffle, local_shuffle, reverse, jitter, duplicate, random_drop)
}
