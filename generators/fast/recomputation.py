"""Activations that are forgotten and computed again for gradients (gradient checkpointing): less memory, more time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention import FeedForward
from peft import PeftModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from videoduet.rewriting import Rewrites

UNITS = ("resnets", "temp_convs", "attentions", "temp_attentions")
"""What a 3D UNet's blocks call their layers."""


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


def _units(unet: UNet3DConditionModel) -> list[nn.Module]:
    blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    return [unet.transformer_in, *(layer for block in blocks for name in UNITS for layer in getattr(block, name, ()))]


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
