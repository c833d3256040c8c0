"""Reading and writing video files, with PyAV.

Frames are uint8 RGB arrays (T, H, W, 3), upright as a player shows them: turned where the file says so, and laid on
white where they are transparent.
"""
# PyAV leaves the parameters of packets and frames open.
# pyright: reportUnknownMemberType=false

import itertools
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from videoduet.errors import InputError
from videoduet.records import stable_id
from videoduet.store import atomic_path, content_hash

UNKNOWN_FPS = 8.0
"""Frames per second where nothing tells: a folder of images, a bare stream."""
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


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


Sampling = int | FrameSampling | None
"""Which frames are kept: that many where there are more, what a :class:`FrameSampling` says, or all."""


def read_video(path: str | Path, sampling: Sampling = None, *, first: int | None = None) -> Clip:
    """Decode a video file or a folder of images (in the order of their names, numbers by value), or its ``first``
    frames.

    Frames that ``sampling`` keeps are evenly spaced. Where they come at a varying rate, that is meant in time: each
    moment shows the frame that is on screen then. Frames of another size than the first are scaled to it.

    Raises InputError naming the file where it is missing, is no video, is damaged, or holds no frame.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"Video {path} does not exist; check the path.")
    try:
        if path.is_dir():
            return _read_folder(path, sampling, first)
        if sampling is None or first is not None:
            frames, times, rate = _decode(path, first=first)
        else:
            times, rate = _announced_times(path)
            frames, announced = {}, None
            # Only frames that are kept are converted, however long the file is. A second pass is for files whose
            # packets announce other frames than they hold.
            while times != announced:
                announced = times
                frames, times, rate = _decode(path, keep=_choose(*_timeline(times, rate), sampling)[0])
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not times:
        raise InputError(f"Video {path} holds no frames; remove it or encode it again.")
    seconds, fps = _timeline(times, rate)
    chosen, seconds = _choose(seconds, fps, sampling)
    return Clip(np.stack([frames[index] for index in chosen]), seconds, fps)


def _unreadable(path: str | Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, av.error.FFmpegError) else error
    return InputError(
        f"Video {path} cannot be read ({'it has no picture' if isinstance(error, IndexError) else reason}); "
        "remove it or encode it again."
    )


def sample_clip(clip: Clip, sampling: Sampling) -> Clip:
    """The frames of ``clip`` that ``sampling`` keeps, as :func:`read_video` would."""
    chosen, seconds = _choose(clip.seconds, clip.fps, sampling)
    return Clip(clip.frames[chosen], seconds, clip.fps)


def video_id(path: str | Path) -> str:
    """The content hash of a video file, or of a folder's images and their names. Raises InputError if there is none."""
    path = Path(path)
    if path.is_dir():
        return stable_id(*(part for file in _images(path) for part in (file.name, content_hash(file))))
    if not path.is_file():
        raise InputError(f"Video {path} does not exist; check the path.")
    return content_hash(path)


def written(path: str | Path) -> tuple[int, int] | None:
    """When a file was last written, and its size, which tell a new one at an old path; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _announced_times(path: Path) -> tuple[list[float | None], float | None]:
    """When each frame is shown, in seconds, by the packets alone, and the stream's average rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = [None if packet.pts is None else float(packet.pts * packet.time_base) for packet in packets]
        known = [time for time in times if time is not None]
        return ([*sorted(known)] if len(known) == len(times) else times), _rate(stream)


def _decode(
    path: Path, keep: Collection[int] | None = None, first: int | None = None
) -> tuple[dict[int, np.ndarray], list[float | None], float | None]:
    """Pixels of the frames to keep (None: all) by index, the times of all frames, and the stream's average rate."""
    frames: dict[int, np.ndarray] = {}
    times: list[float | None] = []
    size = None
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for index, frame in enumerate(itertools.islice(_decoded(container, stream), first)):
            times.append(frame.time)
            size = size or (frame.width, frame.height)
            if keep is None or index in keep:
                frames[index] = _pixels(frame, size)
        return frames, times, _rate(stream)


def _rate(stream: VideoStream) -> float | None:
    return float(stream.average_rate) if stream.average_rate else None


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """A stream's frames, with their transparency: of VP8 and VP9 only libvpx decodes that."""
    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if library is None or stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder = cast(VideoCodecContext, av.CodecContext.create(library, "r"))
    for packet in container.demux(stream):
        yield from decoder.decode(packet)


def _pixels(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    if (frame.width, frame.height) != size:
        frame = frame.reformat(*size)
    if frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba")
        opacity = rgba[..., 3:].astype(np.float32) / 255
        array = (rgba[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)
    else:
        array = frame.to_ndarray(format="rgb24")
    return np.rot90(array, round(frame.rotation / 90))


def _timeline(times: list[float | None], rate: float | None) -> tuple[np.ndarray, float]:
    """Seconds (T,) that increase, and the average rate; a rate that the times contradict is theirs instead."""
    rate = rate or UNKNOWN_FPS
    known = [time for time in times if time is not None]
    if len(known) < len(times) or any(later <= earlier for earlier, later in itertools.pairwise(known)):
        return np.arange(len(times)) / rate, rate
    if len(known) > 1:
        measured = (len(known) - 1) / (known[-1] - known[0])
        rate = rate if abs(measured / rate - 1) < 0.05 else measured
    return np.asarray(known, dtype=float), rate


def _choose(seconds: np.ndarray, fps: float, sampling: Sampling) -> tuple[list[int], np.ndarray]:
    """Which frames to keep, and the moments at which they are shown."""
    total = len(seconds)
    if isinstance(sampling, FrameSampling):
        sampling = sampling.count(total, float(seconds[-1] - seconds[0]) + 1 / fps) if total else None
    if sampling is None or total <= sampling:
        return list(range(total)), seconds
    start, end = float(seconds[0]), float(seconds[-1])
    steady = np.linspace(start, end, total)
    if np.abs(seconds - steady).max() < 0.5 / fps:
        chosen = [round(i) for i in np.linspace(0, total - 1, sampling)]
        return chosen, seconds[chosen]
    moments = np.linspace(start, end, sampling)
    return (np.searchsorted(seconds, moments + 1e-6, side="right") - 1).tolist(), moments


def _images(folder: Path) -> list[Path]:
    """The images of a folder, in the order of their names with numbers by value."""

    def natural(file: Path) -> list[tuple[bool, int, str]]:
        return [
            (part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", file.name)
        ]

    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGES and file.name[0] != ".")
    if not (images := sorted(files, key=natural)):
        raise InputError(
            f"Folder {folder} holds no images, so it is no video; give a video file or a folder of frames."
        )
    return images


def _read_folder(folder: Path, sampling: Sampling, first: int | None) -> Clip:
    files = _images(folder)[:first]
    chosen, seconds = _choose(np.arange(len(files)) / UNKNOWN_FPS, UNKNOWN_FPS, sampling)
    frames: list[np.ndarray] = []
    for index in chosen:
        with av.open(str(files[index])) as container:
            frame = next(container.decode(video=0))
            turned = frames and round(frame.rotation / 90) % 2
            width, height = (frame.width, frame.height) if not frames else (frames[0].shape[1], frames[0].shape[0])
            frames.append(_pixels(frame, (height, width) if turned else (width, height)))
    return Clip(np.stack(frames), seconds, UNKNOWN_FPS)


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
        raise _unreadable(path, error) from error
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
