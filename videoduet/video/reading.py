"""Reading video files and folders of images."""
# PyAV leaves the parameters of packets and frames open.
# pyright: reportUnknownMemberType=false

import itertools
import os
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import numpy as np

from videoduet.errors import InputError, in_words
from videoduet.records import stable_id
from videoduet.store import content_hash
from videoduet.video.clips import UNKNOWN_FPS, Clip, Sampling, choose, sample_clip, timeline
from videoduet.video.decord_reader import Reader, chosen_reader, read_by_decord
from videoduet.video.pictures import frame_placement, image_placement, pixels, square
from videoduet.video.streams import announced_times, decoded, opened, rate_of
from videoduet.video.webp import is_moving_webp, read_webp

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
VIDEOS = {
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".gif", ".apng", ".avif", ".mpg", ".mpeg",
    ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".mxf", ".ogv", ".ogg", ".wmv", ".asf", ".flv", ".f4v", ".dv", ".y4m",
    ".h264", ".264", ".h265", ".265", ".hevc",
}  # fmt: skip
"""Suffixes by which a folder's videos are known; a file that is named is read whatever it is called."""


def read_video(
    path: str | Path, sampling: Sampling = None, *, first: int | None = None, reader: Reader | None = None
) -> Clip:
    """Decode a video file or a folder of images (in the order of their names, numbers by value), or its ``first``
    frames.

    Frames that ``sampling`` keeps are evenly spaced. Where they come at a varying rate, that is meant in time: each
    moment shows the frame that is on screen then. Frames are as a player shows them; those of another size than the
    first are scaled to it.

    ``reader`` decodes: 'pyav', or 'decord' where it shows the same (None: what the environment's VIDEODUET_READER says,
    else 'pyav').

    Raises InputError naming the file for whatever keeps it from being read: it is missing, is no video, is damaged, or
    holds no frame.
    """
    path, chosen = Path(path), chosen_reader(reader)
    with _named(path):
        if path.is_dir():
            return _read_folder(path, sampling, first)
        if is_moving_webp(path):
            return sample_clip(read_webp(path, first), sampling)
        if chosen == "decord" and (clip := read_by_decord(path, sampling, first)) is not None:
            return clip
        return _read_file(path, sampling, first)


def _read_file(path: Path, sampling: Sampling, first: int | None) -> Clip:
    if sampling is None or first is not None:
        frames, times, rate = _decode(path, first=first)
    else:
        times, rate = announced_times(path)
        frames, announced = {}, None
        # Only frames that are kept are converted, however long the file is. A second pass is for files whose
        # packets announce other frames than they hold.
        while times != announced:
            announced = times
            frames, times, rate = _decode(path, keep=choose(*timeline(times, rate), sampling)[0])
    if not times:
        raise _empty(path)
    seconds, fps = timeline(times, rate)
    chosen, seconds = choose(seconds, fps, sampling)
    return Clip(np.stack([frames[index] for index in chosen]), seconds, fps)


def count_frames(path: str | Path) -> int:
    """The number of frames of a video file, all of which can be decoded.

    Raises InputError naming the file where it is no video, is damaged, or holds no frame.
    """
    path = Path(path)
    with _named(path):
        if is_moving_webp(path):
            return len(read_webp(path).frames)
        with opened(path) as (container, stream):
            number = sum(1 for _ in container.decode(stream))
        if not number:
            raise _empty(path)
        return number


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


@contextmanager
def _named(path: Path) -> Generator[None]:
    """Turns whatever goes wrong with a file into an InputError that names it: decoders raise anything."""
    try:
        if not path.exists():
            raise InputError(f"Video {path} does not exist; check the path.")
        if not (path.is_file() or path.is_dir()):
            # A pipe is waited for without end, and can be read once only.
            raise InputError(f"Video {path} is a pipe or a device, not a file; write it to a file first.")
        yield
    except InputError:
        raise
    except Exception as error:
        reason = error.strerror if isinstance(error, av.error.FFmpegError) else in_words(error)
        raise InputError(f"Video {path} cannot be read ({reason}); remove it or encode it again.") from error


def _empty(path: Path) -> InputError:
    return InputError(f"Video {path} holds no frames; remove it or encode it again.")


def _decode(
    path: Path, keep: Collection[int] | None = None, first: int | None = None
) -> tuple[dict[int, np.ndarray], list[float | None], float | None]:
    """Pixels of the frames to keep (None: all) by index, the times of all frames, and the stream's average rate."""
    frames: dict[int, np.ndarray] = {}
    times: list[float | None] = []
    size = None
    still = image_placement(path) if path.suffix.lower() in IMAGES else None
    with opened(path) as (container, stream):
        aspect = stream.sample_aspect_ratio
        for index, frame in enumerate(itertools.islice(decoded(container, stream), first)):
            times.append(frame.time)
            placement = frame_placement(frame) if still is None else still
            size = size or placement.size(*square(frame.height, frame.width, aspect))
            if keep is None or index in keep:
                frames[index] = pixels(frame, placement, aspect, size)
        return frames, times, rate_of(stream)


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
    chosen, seconds = choose(np.arange(len(files)) / UNKNOWN_FPS, UNKNOWN_FPS, sampling)
    frames: list[np.ndarray] = []
    for index in chosen:
        with _named(files[index]), opened(files[index]) as (container, stream):
            if (frame := next(container.decode(stream), None)) is None:
                raise _empty(files[index])
            size = frames[0].shape[:2] if frames else None
            frames.append(pixels(frame, image_placement(files[index]), stream.sample_aspect_ratio, size))
    return Clip(np.stack(frames), seconds, UNKNOWN_FPS)
