"""SlowFast as a frozen measuring instrument: a video's frames in, one vector out."""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reward_model.motion.loading import network_from, window_of
from reward_model.motion.network import SlowFastNetwork
from reward_model.motion.pooling import FAST_WINDOW, SLOW_WINDOW, WINDOW, check_size, pooled, repeats, slow_indices
from reward_model.released_frames import normalised
from videoduet.errors import InputError
from videoduet.store import write_json, write_tensors


class SlowFast(nn.Module):
    """A SlowFast network that nothing can train: it has buffers and no parameters, and stays in evaluation.

    In the releases its weights are frozen, but the statistics of its BatchNorm move with every forward in training,
    which changes what the judge sees. Here ``.train()`` and ``requires_grad_`` change nothing, no optimiser finds it,
    and its features come without a gradient. ``window`` is the side of what is averaged in a map, in cells.
    """

    def __init__(self, network: SlowFastNetwork | None = None, window: int = WINDOW):
        super().__init__()
        network = SlowFastNetwork() if network is None else network
        # A copy, so that who trained it may go on.
        self.blocks, self.window, self.dim = copy.deepcopy(network.blocks), window, network.dim
        for module in self.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, value.detach())
            if isinstance(module, nn.BatchNorm3d):
                # So that no mode moves them, not even that of a part.
                module.__class__ = _FrozenNorm
        self.train(False)

    @classmethod
    def from_pretrained(cls, path: str | Path, *, window: int | None = None) -> "SlowFast":
        """The network in a checkpoint, of whatever width: pytorchvideo's own (``SLOWFAST_8x8_R50.pyth``), a state dict
        (.pt, .pth, .bin), safetensors, what :meth:`save_pretrained` wrote, or a judge's whole checkpoint with a motion
        encoder in it. A directory may hold it in shards.

        ``window`` (None: what stands beside the weights, else 7) is the side of what is averaged. Runs no code from
        the file. Raises InputError where it cannot be read, has no motion weights, or lacks some.
        """
        return cls(network_from(path), window_of(path, WINDOW) if window is None else window)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``model.safetensors``, in pytorchvideo's key layout, and ``config.json`` with the window."""
        state = {name: value.detach().cpu() for name, value in self.state_dict().items()}
        write_tensors(Path(directory) / "model.safetensors", state)
        write_json(Path(directory) / "config.json", {"model_type": "slowfast", "window": self.window})

    def train(self, mode: bool = True) -> "SlowFast":
        """Itself, in evaluation whatever ``mode`` says."""
        return super().train(False)

    @torch.no_grad()
    def features(self, frames: Tensor | np.ndarray) -> Tensor:
        """How a video moves: (dim,) float32, 2304 numbers for a ResNet-50, the slow pathway's first; (B, dim) of B.

        ``frames`` are those that the vision tower sees, any four or more: (T, 3, H, W) floating point, normalised with
        ImageNet's mean and deviation, or (T, H, W, 3) uint8; a leading dimension is a batch. Raises InputError for
        fewer frames, other shapes, and frames too small for the pooling (193 pixels a side for a window of 7).
        """
        clips = _clips(frames)
        batch = clips if clips.ndim == 5 else clips[None]
        slow_shown, repeated = slow_indices(batch.shape[1]), repeats(batch.shape[1])
        check_size(batch.shape[-2], batch.shape[-1], self.window)
        some = next(self.buffers())
        fast = batch.movedim(2, 1).to(some)
        slow = fast[:, :, slow_shown]
        for block in self.blocks:
            slow, fast = block(slow, fast)
        spans = zip((slow, fast), (SLOW_WINDOW, FAST_WINDOW), strict=True)
        vectors = torch.cat([pooled(maps, span, repeated, self.window) for maps, span in spans], dim=1)
        return vectors if clips.ndim == 5 else vectors[0]

    forward = features


class _FrozenNorm(nn.BatchNorm3d):
    def forward(self, input: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(input, mean, variance, self.weight, self.bias, training=False, eps=self.eps)


def _clips(frames: Tensor | np.ndarray) -> Tensor:
    """(…, T, 3, H, W) in floating point."""
    given = torch.as_tensor(frames)
    if given.ndim not in (4, 5) or (3 not in (given.shape[-3], given.shape[-1])) or not given.numel():
        raise InputError(
            f"Frames of shape {tuple(given.shape)} show no motion; give (T, 3, H, W) or (T, H, W, 3), or a batch."
        )
    last = given.shape[-3] != 3
    if given.is_floating_point():
        return given.movedim(-1, -3) if last else given
    if given.dtype is not torch.uint8:
        raise InputError(f"Frames are {given.dtype}; give uint8 in [0, 255], or floating point that is normalised.")
    return normalised(given if last else given.movedim(-3, -1))
