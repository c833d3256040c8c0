"""Writing videos: mp4 for programs, and what people paste into pages: GIF, WebP and folders of images."""
# PyAV leaves the parameters of packets and frames open.
# pyright: reportUnknownMemberType=false

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import imageio.v3 as iio
import numpy as np
from PIL import Image

from videoduet.store import atomic_path, write_bytes
from videoduet.video.clips import Clip

Format = Literal["mp4", "gif", "webp", "frames"]
SHORTEST = 20
"""Milliseconds: browsers slow pictures down that are shown for less."""


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


def animated(
    frames: Iterable[np.ndarray],
    milliseconds: int,
    kind: Literal["gif", "webp"] = "webp",
    *,
    lossless: bool = False,
    size: int | None = None,
) -> bytes:
    """The bytes of a picture that plays ``frames`` (uint8, H x W x 3 each) for ever, each for so many ``milliseconds``.

    ``size`` is the longest side in pixels to which larger frames are made smaller (None: as they are); ``lossless`` is
    for WebP.
    """
    if size is not None:
        images = [Image.fromarray(frame) for frame in frames]
        for image in images:
            image.thumbnail((size, size))
        frames = [np.asarray(image) for image in images]
    options: dict[str, Any] = {"quality": 80, "lossless": lossless} if kind == "webp" else {}
    return iio.imwrite(
        "<bytes>", np.stack([*frames]), plugin="pillow", extension=f".{kind}", is_batch=True, duration=milliseconds,
        loop=0, **options,
    )  # fmt: skip


def write_clip(path: str | Path, clip: Clip, kind: Format) -> None:
    """Write a clip as one file, or as a folder of PNG images, atomically; frames are shown for equally long."""
    if kind == "mp4":
        write_video(path, clip.frames, clip.fps)
    elif kind == "frames":
        with atomic_path(path) as temporary:
            temporary.mkdir()
            for number, frame in enumerate(clip.frames):
                iio.imwrite(temporary / f"{number:05d}.png", frame, plugin="pillow")
    else:
        write_bytes(path, animated(clip.frames, max(SHORTEST, round(1000 * clip.spacing)), kind))
