"""Frames as VQAThinker and AIGV-Assessor show them: which ones, squared with a bicubic filter, normalised for a ViT."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from videoduet.errors import InputError
from videoduet.video import MiddleFrames

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which InternViT was trained with."""


def released_indices(total: int, wanted: int) -> list[int]:
    """Which ``wanted`` of a file's ``total`` frames are shown: the middle of each of as many equal segments.

    With s = (total - 1) / wanted, frame i is int(s/2 + round(s i)), halves rounded to even, as both releases count;
    frames repeat where there are fewer than are wanted. Raises InputError for no frames.
    """
    if total < 1 or wanted < 1:
        raise InputError(f"{wanted} of {total} frames cannot be shown; give one or more of each.")
    return MiddleFrames(wanted).indices(total)


def squared(frames: np.ndarray, size: int) -> np.ndarray:
    """``frames`` (T, H, W, 3) uint8 scaled to (T, size, size, 3) uint8; the aspect ratio is lost, as in the releases.

    Pillow's bicubic filter, which smooths where it shrinks. Another library's is off by up to one grey level.
    """
    scaled = [Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC) for frame in frames]
    return np.stack([np.asarray(image) for image in scaled])


def normalised(frames: np.ndarray | Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """``frames`` (..., H, W, 3) uint8 as a model takes them: (..., 3, H, W) float32, of zero mean and unit deviation
    on ImageNet.
    """
    values = torch.as_tensor(frames).float() / 255
    return ((values - torch.tensor(mean)) / torch.tensor(std)).movedim(-1, -3).contiguous()


def imagenet(frames: Tensor) -> Tensor:
    """``frames`` (..., 3, H, W) in [0, 1], normalised in the same way."""
    return (frames - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
