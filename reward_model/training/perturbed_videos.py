"""Temporal perturbations of a video that is already in patches, so that it need not be decoded again."""

from dataclasses import replace

import numpy as np
import torch

from reward_model.encoding import VideoInputs
from reward_model.perturbations import PERTURBATIONS


def perturbed(
    video: VideoInputs, name: str, rng: np.random.Generator, temporal_patch_size: int = 2, strength: float = 1.0
) -> VideoInputs:
    """``video`` with its frames in the order that the perturbation ``name`` of ``strength`` gives them; grid and timing
    stay.

    A patch of a Qwen2.5-VL vision tower holds ``temporal_patch_size`` frames, innermost but height and width:
    (t h w, channels x frames x height x width). A frame that was repeated to fill the last patch counts as a frame.
    A family that sees images has frames for patches: (t, channels, height, width).
    """
    if video.patches.ndim == 4:
        order = torch.from_numpy(PERTURBATIONS[name](np.arange(len(video.patches)), rng, strength))
        return replace(video, patches=video.patches[order])
    t, spatial = int(video.grid[0]), int(video.grid[1] * video.grid[2])
    channels = 3
    patches = video.patches.view(t, spatial, channels, temporal_patch_size, -1)
    frames = patches.permute(0, 3, 1, 2, 4).flatten(0, 1)  # (T, h w, channels, height x width)
    order = torch.from_numpy(PERTURBATIONS[name](np.arange(len(frames)), rng, strength))
    shown = frames[order].view(t, temporal_patch_size, spatial, channels, -1).permute(0, 2, 3, 1, 4)
    return replace(video, patches=shown.reshape(video.patches.shape))
