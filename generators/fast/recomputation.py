"""Activations that are forgotten and computed again for gradients (gradient checkpointing): less memory, more time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention import FeedForward
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videoduet.rewriting import Rewrites

UNITS = ("resnets", "temp_convs", "attentions", "temp_attentions")
"""What a 3D UNet's blocks call their layers."""

ROWS = 8192
"""Tokens that go through a feed-forward together: enough for a GPU's products to run at full speed."""


def recompute_all(denoiser: nn.Module) -> Rewrites:
    """The change of ``denoiser``, or of what its LoRA wraps, after which it forgets what is inside its layers.

    A transformer has a way of its own (diffusers' ``enable_gradient_checkpointing``). Stock diffusers has none for a 3D
    UNet: there each spatial and temporal convolution and transformer is one unit. Without gradients nothing changes.
    """
    model = denoiser.get_base_model() if isinstance(denoiser, PeftModel) else denoiser
    rewrites = Rewrites()
    if isinstance(model, UNet3DConditionModel):
        for layer in _units(model):
            rewrites.forward(layer, partial(_recomputed, layer.forward))
    elif not model.is_gradient_checkpointing:
        model.enable_gradient_checkpointing()
        rewrites.add(model.disable_gradient_checkpointing)
    return rewrites


def recompute_feed_forwards(denoiser: nn.Module) -> Rewrites:
    """The same for the feed-forward layers of any diffusers model alone: most of what a transformer's block keeps, for
    a tenth of the block's work.
    """
    rewrites = Rewrites()
    for layer in denoiser.modules():
        if isinstance(layer, FeedForward):
            rewrites.forward(layer, partial(_recomputed, layer.forward))
    return rewrites


def recompute_twice(denoiser: nn.Module) -> Rewrites:
    """As :func:`recompute_all`, and less again: the feed-forwards, whose inside is the widest, go a few thousand tokens
    at a time, and of a 3D UNet nothing is kept but its blocks' inputs. A third forward pass for less memory.

    Recomputing the feed-forwards whole would not lower the peak: their own inside is the peak of the layer they end.
    """
    model = denoiser.get_base_model() if isinstance(denoiser, PeftModel) else denoiser
    rewrites = Rewrites()
    for layer in model.modules():
        if isinstance(layer, FeedForward):
            rewrites.forward(layer, partial(_in_parts, layer.forward))
    rewrites.add(recompute_all(denoiser).undo)
    if isinstance(model, UNet3DConditionModel):
        for block in (*model.down_blocks, *model.up_blocks):
            rewrites.forward(block, partial(_recomputed, block.forward))
    return rewrites


def _in_parts(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``forward`` of x (..., tokens, channels) by parts, each of which is computed again when gradients need it."""
    rows = x.reshape(-1, x.shape[-1])
    if not torch.is_grad_enabled() or len(rows) <= ROWS:
        return forward(x)
    return torch.cat([_recomputed(forward, part) for part in rows.split(ROWS)]).view(x.shape)


def _units(unet: UNet3DConditionModel) -> list[nn.Module]:
    blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    return [unet.transformer_in, *(layer for block in blocks for name in UNITS for layer in getattr(block, name, ()))]


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    # Nothing in it draws: policies train without dropout. While a graph is recorded, no random state can be read.
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)
