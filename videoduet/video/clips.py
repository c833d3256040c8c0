"""Frames with their times, and which of them are kept."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videoduet.errors import InputError

UNKNOWN_FPS = 8.0
"""Frames per second where nothing tells: a folder of images, a bare stream."""


@dataclass(frozen=True)
class Clip:
    """Decoded frames (T, H, W, 3) uint8, with the time of each in seconds (T,) and the file's average frame rate."""

    frames: np.ndarray
    seconds: np.ndarray
    fps: float

    @property
    def spacing(self) -> float:
        """Seconds from one frame to the next where the clip's duration is cut in equal parts."""
        return float(self.seconds[-1] - self.seconds[0] + 1 / self.fps) / len(self.frames)


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """``fps`` frames a second, but no fewer than ``min_frames``, no more than ``max_frames`` and never more than there
    are; an even number, since Qwen's vision towers take frames in twos.
    """

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 16

    def __post_init__(self) -> None:
        if not (self.fps > 0 and 1 <= self.min_frames <= self.max_frames):
            raise InputError(f"{self} cannot be used; give fps > 0 and 1 <= min_frames <= max_frames.", exit_code=2)

    def count(self, total: int, duration: float) -> int:
        """How many of ``total`` frames to take from ``duration`` seconds."""
        wanted = int(min(max(self.fps * duration, self.min_frames), self.max_frames, total))
        return max(1, wanted // 2 * 2)


@dataclass(frozen=True)
class MiddleFrames:
    """The middle frame of each of ``count`` equal parts of the frames, some of them more than once where there are
    fewer: how VQAThinker and AIGV-Assessor choose.
    """

    count: int

    def indices(self, total: int) -> list[int]:
        """Which of ``total`` frames: int(s/2 + round(s i)) with s = (total - 1) / count, halves rounded to even."""
        step = (total - 1) / self.count
        return [int(step / 2 + round(step * index)) for index in range(self.count)]


Sampling = int | FrameSampling | MiddleFrames | None
"""Which frames are kept: that many where there are more, what a :class:`FrameSampling` or a :class:`MiddleFrames` says,
or all.
"""


def sample_clip(clip: Clip, sampling: Sampling) -> Clip:
    """The frames of ``clip`` that ``sampling`` keeps, as :func:`videoduet.video.read_video` would."""
    chosen, seconds = choose(clip.seconds, clip.fps, sampling)
    return Clip(clip.frames[chosen], seconds, clip.fps)


def timeline(times: Sequence[float | None], rate: float | None) -> tuple[np.ndarray, float]:
    """Seconds (T,) that increase, and the average rate; a rate that the times contradict is theirs instead.

    Frames without a time lie evenly between their neighbours. Where no frame has one, or times run backwards (in AVI
    they count packets, whose order is not that of the frames), the rate alone says when each is shown.
    """
    rate = rate or UNKNOWN_FPS
    places = [place for place, time in enumerate(times) if time is not None]
    known = [time for time in times if time is not None]
    if not known or any(later <= earlier for earlier, later in itertools.pairwise(known)):
        return np.arange(len(times)) / rate, rate
    if len(known) > 1:
        measured = (places[-1] - places[0]) / (known[-1] - known[0])
        rate = rate if abs(measured / rate - 1) < 0.05 else measured
    everywhere = np.arange(len(times))
    before, after = np.minimum(everywhere - places[0], 0), np.maximum(everywhere - places[-1], 0)
    return np.interp(everywhere, places, known) + (before + after) / rate, rate


def choose(seconds: np.ndarray, fps: float, sampling: Sampling) -> tuple[list[int], np.ndarray]:
    """Which frames to keep, and the moments at which they are shown."""
    total = len(seconds)
    if not total:
        return [], seconds
    if isinstance(sampling, MiddleFrames):
        chosen = sampling.indices(total)
        return chosen, seconds[chosen]
    if isinstance(sampling, FrameSampling):
        sampling = sampling.count(total, float(seconds[-1] - seconds[0]) + 1 / fps)
    if sampling is None or total <= sampling:
        return list(range(total)), seconds
    start, end = float(seconds[0]), float(seconds[-1])
    steady = np.linspace(start, end, total)
    if np.abs(seconds - steady).max() < 0.5 / fps:
        chosen = [round(i) for i in np.linspace(0, total - 1, sampling)]
        return chosen, seconds[chosen]
    moments = np.linspace(start, end, sampling)
    return (np.searchsorted(seconds, moments + 1e-6, side="right") - 1).tolist(), moments
