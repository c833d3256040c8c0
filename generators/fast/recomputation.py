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

BLOCKS = ("blocks", "transformer_blocks")
"""What diffusers' transformers for video call theirs."""

AWAY_FROM = "cuda"
"""The kind of device whose memory is short."""

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
    at a time; a transformer's blocks go one video after the other, so that no more than one block of one video is whole
    at a time, and their inputs wait in the machine's memory; of a 3D UNet nothing is kept but its blocks' inputs. A
    third forward pass for less memory.

    Recomputing the feed-forwards whole would not lower the peak: their own inside is the peak of the layer they end.
    """
    model = denoiser.get_base_model() if isinstance(denoiser, PeftModel) else denoiser
    rewrites = Rewrites()
    for layer in model.modules():
        if isinstance(layer, FeedForward):
            rewrites.forward(layer, partial(_in_parts, layer.forward))
    for block in (blocks := _blocks(model)):
        rewrites.forward(block, partial(_one_by_one, block.forward))
    if not blocks:
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


def _one_by_one(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """``forward`` of a block's inputs video by video, each of which is computed again when gradients need it; until
    then the first of them, which is the block's own, waits in the machine's memory.
    """
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    # As arguments without names, which alone are put away.
    values, count = (*arguments, *named.values()), len(arguments)
    first = next(value for value in values if isinstance(value, Tensor))
    batch = len(first)

    def block(*given: Any) -> Any:
        return forward(*given[:count], **dict(zip(named, given[count:], strict=True)))

    def part(value: Any, row: int) -> Any:
        if isinstance(value, tuple):
            return tuple(part(each, row) for each in value)
        return value[row : row + 1] if isinstance(value, Tensor) and value.dim() and len(value) == batch else value

    with torch.autograd.graph.saved_tensors_hooks(partial(_put_away, first[:1].shape), _brought_back):
        outputs = [_recomputed(block, *part(values, row)) for row in range(batch)]
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return tuple(torch.cat(each) for each in zip(*outputs, strict=True))


def _put_away(shape: torch.Size, tensor: Tensor) -> tuple[torch.device, Tensor]:
    """Where ``tensor`` was, and it in the machine's memory, where it is of ``shape``; others stay where they are."""
    # A graph that is recorded can wait for nothing on the machine.
    recorded = tensor.is_cuda and torch.cuda.is_current_stream_capturing()
    if tensor.shape != shape or tensor.device.type != AWAY_FROM or recorded:
        return tensor.device, tensor
    away = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    away.copy_(tensor, non_blocking=True)
    return tensor.device, away


def _brought_back(waiting: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = waiting
    return tensor.to(device, non_blocking=True)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, or of both of Wan 2.2's; none of a UNet."""
    if isinstance(model, UNet3DConditionModel):
        return []
    lists = (part for name, part in model.named_modules() if name.rpartition(".")[2] in BLOCKS)
    return [block for part in lists if isinstance(part, nn.ModuleList) for block in part]


def _units(unet: UNet3DConditionModel) -> list[nn.Module]:
    blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    return [unet.transformer_in, *(layer for block in blocks for name in UNITS for layer in getattr(block, name, ()))]


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    # Nothing in it draws: policies train without dropout. While a graph is recorded, no random state can be read.
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)
