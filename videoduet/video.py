"""Reading and writing video files, with PyAV.

Frames are uint8 RGB arrays (T, H, W, 3).
"""

import itertools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from videoduet.errors import InputError
from videoduet.store import atomic_path


@dataclass(frozen=True)
class Clip:
    """Decoded frames (T, H, W, 3) uint8, with the time of each in seconds (T,) and the file's average frame rate."""

    frames: np.ndarray
    seconds: np.ndarray
    fps: float


def read_video(path: str | Path, num_frames: int | None = None, *, first: int | None = None) -> Clip:
    """Decode a video file, or its ``first`` frames; ``num_frames`` keeps that many of them, evenly spaced, where there
    are more.

    Raises InputError naming the file where it is missing, is no video, is damaged, or holds no frame.
    """
    if not Path(path).is_file():
        raise InputError(f"Video {path} does not exist; check the path.")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            fps = float(stream.average_rate or 0) or 8.0
            frames = itertools.islice(container.decode(stream), first)
            decoded = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in frames]
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise InputError(f"Video {path} cannot be read ({error}); remove it or encode it again.") from error
    if not decoded:
        raise InputError(f"Video {path} holds no frames; remove it or encode it again.")
    if num_frames is not None and len(decoded) > num_frames:
        decoded = [decoded[round(i)] for i in np.linspace(0, len(decoded) - 1, num_frames)]
    seconds = [time if time is not None else index / fps for index, (_, time) in enumerate(decoded)]
    return Clip(np.stack([frame for frame, _ in decoded]), np.asarray(seconds), fps)


def count_frames(path: str | Path) -> int:
    """The number of frames of a video file, all of which can be decoded.

    Raises InputError naming the file where it is no video, is damaged, or holds no frame.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            number = sum(1 for _ in container.decode(stream))
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise InputError(f"Video {path} cannot be read ({error}); remove it or encode it again.") from error
    if not number:
        raise InputError(f"Video {path} holds no frames; remove it or encode it again.")
    return number


def write_video(path: str | Path, frames: np.ndarray, fps: float, crf: int = 12) -> None:
    """Write frames as H.264 in mp4, atomically; the same frames always give the same bytes.

    Colour is kept at full resolution (4:4:4) up to 128 pixels, where 4:2:0 would smear it visibly, and 4:2:0 above,
    which every player reads. Odd sizes above that are cropped by a pixel, as 4:2:0 demands.
    """
    frames = np.ascontiguousarray(frames)
    small = max(frames.shape[1:3]) <= 128
    if not small:
        frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p" if small else "yuv420p"
        # One thread: x264's output depends on the number of threads.
        stream.codec_context.thread_count = 1
        # And its macroblock tree reads memory that it never wrote: the same frames would give other bytes another day.
        stream.options = {"crf": str(crf), "preset": "medium", "x264-params": "mbtree=0"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
