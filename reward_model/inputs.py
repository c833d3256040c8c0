"""What a caller gives a judge, as records: videos by path, as arrays or as tensors; pairs with or without a prompt."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from reward_model.questions import Clips
from videoduet.errors import InputError
from videoduet.records import Prompt, Video, VideoPair, stable_id
from videoduet.video import UNKNOWN_FPS, Clip, video_id

GivenVideo = str | os.PathLike[str] | Video | Clip | np.ndarray | Tensor
"""A path of a file or a folder of frames, a record, or frames: uint8 in [0, 255] or floating point in [0, 1], shaped
(T, H, W, 3) or (T, 3, H, W). Frames alone count as 8 a second; a :class:`videoduet.video.Clip` says when each is
shown."""

GivenPair = VideoPair | Sequence
"""A record, or (first, second), or (first, second, prompt)."""


def as_video(given: GivenVideo) -> tuple[Video, Clips]:
    """The record of a video, whose id is a hash of its content, and its frames where it lies in no file.

    Raises InputError for what is no video.
    """
    if isinstance(given, Video):
        return given, {}
    if isinstance(given, str | os.PathLike):
        try:
            return Video(id=video_id(given), path=str(Path(given).absolute())), {}
        except (OSError, ValueError) as error:
            raise InputError(f"Video {str(given)[:80]!r} cannot be read ({error.args[-1]}).") from error
    clip = given if isinstance(given, Clip) else _clip(given)
    name = stable_id(hashlib.sha256(clip.frames.tobytes()).hexdigest(), clip.frames.shape, clip.seconds.tolist())
    return Video(id=name, path=f"memory:{name}"), {f"memory:{name}": clip}


def as_pair(given: GivenPair) -> tuple[VideoPair, Clips]:
    """The record of a question about two videos, and the frames of those that lie in no file.

    Raises InputError for what is no pair of videos.
    """
    if isinstance(given, VideoPair):
        return given, {}
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) not in (2, 3):
        raise InputError(f"A pair is (first, second) or (first, second, prompt), not {str(given)[:80]!r}.")
    (first, held), (second, also_held) = as_video(given[0]), as_video(given[1])
    prompt = given[2] if len(given) == 3 else ""
    if not isinstance(prompt, Prompt | str | None):
        raise InputError(f"A prompt is a text, not {str(prompt)[:80]!r}.")
    prompt = prompt if isinstance(prompt, Prompt) else Prompt.of(prompt or "")
    return VideoPair(prompt=prompt, first=first, second=second), held | also_held


def _clip(frames: np.ndarray | Tensor) -> Clip:
    array = (
        frames.detach().cpu().float().numpy() if isinstance(frames, Tensor) and frames.is_floating_point() else frames
    )
    array = np.asarray(array)
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise InputError(f"Frames of shape {tuple(array.shape)} are no video; give (T, H, W, 3) or (T, 3, H, W).")
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise InputError("Frames in floating point must lie in [0, 1]; scale them, or give uint8.")
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(f"Frames are {array.dtype}; give uint8 in [0, 255] or floating point in [0, 1].")
    return Clip(np.ascontiguousarray(array), np.arange(len(array)) / UNKNOWN_FPS, UNKNOWN_FPS)
