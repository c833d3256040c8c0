"""Temporal attention over a handful of frames, on a CPU: one call of the kernel for each pixel and head is mostly the
calling, so neighbouring pixels go through it together, hidden from each other by a mask.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from videoduet.rewriting import Rewrites

LENGTH = 16
"""Tokens in a call that the kernel is best used by: beyond it the work that the mask throws away costs more."""


class ShortAttention:
    """What diffusers' own processor computes, for self-attention as temporal transformers have it."""

    def __call__(self, attn: Attention, hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if arguments or any(value is not None for value in named.values()):
            return AttnProcessor2_0()(attn, hidden_states, *arguments, **named)
        pixels, frames, channels = hidden_states.shape
        together = max(n for n in range(1, max(1, LENGTH // frames) + 1) if pixels % n == 0)
        x = hidden_states.reshape(pixels // together, together * frames, channels)
        query, key, value = (
            project(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        mask = None
        if together > 1:
            own = torch.ones(frames, frames, dtype=torch.bool, device=x.device)
            mask = torch.block_diag(*[own] * together)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2))).view(pixels, frames, -1)


def attend_together(denoiser: nn.Module) -> Rewrites:
    """The change of a 3D UNet after which its temporal self-attentions compute as above; values differ by rounding
    alone. One that has a processor of its own keeps it.
    """
    rewrites = Rewrites()
    for transformer in denoiser.modules():
        if isinstance(transformer, TransformerTemporalModel):
            for attn in transformer.modules():
                if isinstance(attn, Attention) and type(attn.processor) is AttnProcessor2_0 and _plain(attn):
                    rewrites.add(partial(attn.set_processor, attn.processor))
                    attn.set_processor(ShortAttention())
    return rewrites


def _plain(attn: Attention) -> bool:
    norms = (attn.group_norm, attn.spatial_norm, attn.norm_q, attn.norm_k)
    adds_nothing = not attn.residual_connection and attn.rescale_output_factor == 1
    return not attn.is_cross_attention and adds_nothing and all(norm is None for norm in norms)
