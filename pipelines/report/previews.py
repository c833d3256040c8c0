"""Videos inside a page: a file's bytes, or a moving picture that every browser shows whatever the video's codec."""

import base64
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from videoduet.errors import InputError
from videoduet.video import read_video

PREVIEW_FRAMES, PREVIEW_SIZE = 16, 320


def data_uri(kind: str, data: bytes) -> str:
    """``data``, of the media type ``kind``, as an address that holds it all."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def animation(
    frames: Iterable[np.ndarray], milliseconds: int, *, lossless: bool = False, size: int | None = None
) -> str:
    """A data URI of a WebP that plays ``frames`` (uint8, H x W x 3 each) for ever, each for so many ``milliseconds``.

    ``size`` is the longest side in pixels to which larger frames are made smaller (None: as they are).
    """
    images, buffer = [Image.fromarray(frame) for frame in frames], io.BytesIO()
    if size is not None:
        for image in images:
            image.thumbnail((size, size))
    images[0].save(
        buffer, "webp", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, quality=80,
        lossless=lossless,
    )  # fmt: skip
    return data_uri("image/webp", buffer.getvalue())


def preview(video: str) -> str | None:
    """A data URI of a small moving picture of a video file; None where it cannot be read."""
    try:
        clip = read_video(video, PREVIEW_FRAMES)
    except InputError:
        return None
    step = float(np.diff(clip.seconds).mean()) if len(clip.frames) > 1 else 1.0
    return animation(clip.frames, max(20, round(1000 * step)), size=PREVIEW_SIZE)
