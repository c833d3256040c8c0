"""Videos inside a page: a file's bytes, or a moving picture that every browser shows whatever the video's codec."""

import base64

import numpy as np

from videoduet.video import SHORTEST, animated, read_video

PREVIEW_FRAMES, PREVIEW_SIZE = 16, 320


def data_uri(kind: str, data: bytes) -> str:
    """``data``, of the media type ``kind``, as an address that holds it all."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def preview(video: str) -> str | None:
    """A data URI of a small moving picture of a video file; None where it cannot be read."""
    try:
        clip = read_video(video, PREVIEW_FRAMES)
    # A page comes about whatever is wrong with one file.
    except Exception:
        return None
    step = float(np.diff(clip.seconds).mean()) if len(clip.frames) > 1 else 1.0
    return data_uri("image/webp", animated(clip.frames, max(SHORTEST, round(1000 * step)), size=PREVIEW_SIZE))
