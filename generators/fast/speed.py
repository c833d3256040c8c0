"""All that is changed of a denoiser's forward for a training, by one call that can be undone."""

import torch
from torch import nn

from generators.fast.config import SpeedConfig
from generators.fast.folded_lora import fold_lora
from generators.fast.gated_activation import keep_gates_once
from generators.fast.half_lora import lora_in_half
from generators.fast.recomputation import recompute_all, recompute_feed_forwards, recompute_twice
from generators.fast.short_attention import attend_together
from videoduet.rewriting import Rewrites


def speed_up(denoiser: nn.Module, config: SpeedConfig, device: torch.device | str) -> Rewrites:
    """The changes of ``denoiser`` (plain, or wrapped in a LoRA), which is on ``device`` and computes faster, or in less
    memory, until they are undone: by ``undo()`` or as a context manager.

    Undone, its outputs are the plain model's to the last bit. Values in between are the same up to rounding.
    """
    parts = [keep_gates_once(denoiser)]
    if config.gradient_checkpointing == "feed_forward":
        parts.append(recompute_feed_forwards(denoiser))
    elif config.gradient_checkpointing == "twice":
        parts.append(recompute_twice(denoiser))
    elif config.gradient_checkpointing:
        parts.append(recompute_all(denoiser))
    if not config.autocast:
        parts.append(fold_lora(denoiser))
        if config.lora_in_half:
            parts.append(lora_in_half(denoiser))
    if torch.device(device).type == "cpu":
        parts.append(attend_together(denoiser))
    together = Rewrites()
    for part in parts:
        together.add(part.undo)
    return together
