"""Videos as patches, the form in which a vision tower takes them."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class VideoInputs:
    """One video as the vision tower takes it: patches (n, d) float32, grid (3,) = (t, h, w), seconds per temporal
    patch, and the moment of each temporal patch in seconds.

    For a family that sees images, patches are frames (t, 3, H, W), and the grid counts vision tokens.
    """

    patches: Tensor
    grid: Tensor
    seconds_per_grid: float
    moments: tuple[float, ...] = field(default=())
    known: dict[str, Tensor] = field(init=False, default_factory=dict[str, Tensor], compare=False, repr=False)
    """What was worked out of its frames; a video with others starts anew."""


def few_patches(videos: Mapping[Key, VideoInputs], most: int = 2**17) -> Iterator[dict[Key, VideoInputs]]:
    """``videos`` in turn, in parts of at most ``most`` patches, or of one video: more in one forward of the vision
    tower takes memory that nobody has counted, and is no faster.
    """
    part: dict[Key, VideoInputs] = {}
    for key, video in videos.items():
        if part and sum(len(each.patches) for each in part.values()) + len(video.patches) > most:
            yield part
            part = {}
        part[key] = video
    if part:
        yield part


def video_tensors(videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
    """The model inputs of n videos, in order: patches (sum of patches, d), grids (n, 3), seconds per grid step (n,)."""
    return {
        "pixel_values_videos": torch.cat([video.patches for video in videos]),
        "video_grid_thw": torch.stack([video.grid for video in videos]),
        "second_per_grid_ts": torch.tensor([video.seconds_per_grid for video in videos]),
    }


def frames_in(video: VideoInputs, step: int, merge: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The frames (T, 3, H, W) in [0, 1] of a video in a Qwen's patches: those of ``step`` frames, in cells of ``merge``
    by ``merge``, normalised with ``mean`` and ``std``. A frame that was repeated to fill the last patch is one of them.
    """
    t, rows, columns = (int(size) for size in video.grid)
    side = int((video.patches.shape[1] // (3 * step)) ** 0.5)
    cells = video.patches.view(t, rows // merge, columns // merge, merge, merge, 3, step, side, side)
    frames = cells.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(t * step, 3, rows * side, columns * side)
    return frames * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
