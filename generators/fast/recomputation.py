"""Gradient checkpointing where diffusers has none: activations are forgotten and computed again for gradients."""

from functools import partial

import torch
from diffusers.models.attention import FeedForward
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_unet(unet: nn.Module) -> None:
    """Let a ``UNet3DConditionModel`` forget what is inside its layers and compute it again for gradients.

    Stock diffusers has this for no 3D UNet. Each spatial and temporal convolution and transformer is one unit; without
    gradients nothing changes.
    """
    unet.transformer_in.forward = partial(_checkpointed, unet.transformer_in.forward)
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        for name in ("resnets", "temp_convs", "attentions", "temp_attentions"):
            for layer in getattr(block, name, ()):
                layer.forward = partial(_checkpointed, layer.forward)


def checkpoint_feed_forwards(denoiser: nn.Module) -> None:
    """The same for the feed-forward layers of any diffusers model alone: most of what a transformer's block keeps, for
    a tenth of the block's work.
    """
    for module in denoiser.modules():
        if isinstance(module, FeedForward):
            module.forward = partial(_checkpointed, module.forward)


def _checkpointed(forward, *arguments, **named):
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
