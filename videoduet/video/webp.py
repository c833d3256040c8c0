"""Moving WebP pictures, which FFmpeg does not decode."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from videoduet.video.clips import Clip, timeline
from videoduet.video.pictures import image_placement, on_white


def is_moving_webp(path: Path) -> bool:
    """Whether a file is a WebP picture of several frames."""
    if path.suffix.lower() != ".webp":
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    # The decoder says what is wrong with it.
    except Exception:
        return False


def read_webp(path: Path, first: int | None = None) -> Clip:
    """All frames of a moving WebP picture, or the first ones."""
    placement, frames, shown = image_placement(path), list[np.ndarray](), list[float]()
    with Image.open(path) as image:
        for frame in itertools.islice(ImageSequence.Iterator(image), first):
            frames.append(placement(on_white(np.asarray(frame.convert("RGBA")))))
            shown.append(frame.info.get("duration", 0) / 1000)
    seconds = np.cumsum([0.0, *shown])
    rate = len(shown) / float(seconds[-1]) if seconds[-1] else None
    return Clip(np.stack(frames), *timeline(seconds[:-1].tolist(), rate))
