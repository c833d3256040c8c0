"""Frames by decord (``pip install videoduet[decord]``), which seeks in long films where PyAV decodes all of them.

The pixels are the same. What decord shows otherwise than a player is left to PyAV: it knows no display matrices, no
pixels that are not square, no transparency, no HDR and no fields, and no film whose rows it would pad.
"""
# decord comes without types.
# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from videoduet.errors import InputError
from videoduet.video.clips import Clip, Sampling, choose, timeline
from videoduet.video.pictures import Placement, frame_placement, is_transparent
from videoduet.video.streams import announced_times, opened
from videoduet.video.tones import HDR

Reader = Literal["pyav", "decord"]
READER = "VIDEODUET_READER"
"""The environment variable that names the reader where nobody else does."""
CONTAINERS = {"mp4", "matroska"}
"""In others decord repeats frames, or loses their times."""


def chosen_reader(reader: str | None = None) -> Reader:
    """The reader that is named, or the environment's, or PyAV. Raises InputError for another one, or where decord is
    wished for and not installed.
    """
    reader = reader or os.environ.get(READER) or "pyav"
    if reader not in ("pyav", "decord"):
        raise InputError(f"There is no reader {reader!r} of videos; take 'pyav' or 'decord'.", exit_code=2)
    if reader == "decord":
        _library()
    return reader


def use_reader(reader: Reader | None) -> None:
    """From now on read with it, here and in processes that are started from here; None: as it is."""
    if reader is not None:
        os.environ[READER] = chosen_reader(reader)


def read_by_decord(path: Path, sampling: Sampling, first: int | None) -> Clip | None:
    """What :func:`videoduet.video.read_video` gives, or None where that is PyAV's to say."""
    decord = _library()
    try:
        shape = _plain(path)
        times, rate = announced_times(path)
        if shape is None or not times or None in times:
            return None
        reader = decord.VideoReader(str(path), num_threads=1)
        if len(reader) != len(times):
            return None
        seconds, fps = timeline(times[:first], rate)
        chosen, seconds = choose(seconds, fps, sampling)
        frames = cast(np.ndarray, reader.get_batch(chosen).asnumpy())
    # PyAV says what is wrong with the file.
    except Exception:
        return None
    return Clip(frames, seconds, fps) if frames.shape[1:3] == shape else None


def _library() -> Any:
    try:
        import decord
    except ImportError as error:
        raise InputError(
            "decord is not installed; install it (pip install 'videoduet[decord]', where it has a wheel), or read with "
            "'pyav'.",
            exit_code=2,
        ) from error
    return decord


def _plain(path: Path) -> tuple[int, int] | None:
    """Height and width of a film whose stored pixels are those shown; None of another one."""
    with opened(path) as (container, stream):
        if not CONTAINERS & {*container.format.name.split(",")} or len(container.streams.video) > 1:
            return None
        if stream.sample_aspect_ratio not in (None, 0, 1) or stream.metadata.get("alpha_mode") == "1":
            return None
        frame = next(container.decode(stream), None)
        # More bits than eight decord rounds otherwise.
        if frame is None or any(component.bits != 8 for component in frame.format.components):
            return None
        if frame_placement(frame) != Placement() or is_transparent(frame) or frame.color_trc in HDR:
            return None
        # Two fields in a frame decord shows as one torn picture.
        if frame.interlaced_frame:
            return None
        return frame.height, frame.width
