"""The gated activation of transformers' feed-forward layers with less to keep: diffusers' way keeps gelu(gate) for the
gradients beside what it is made of; here it is made again.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from videoduet.rewriting import Rewrites


class _Gate(torch.autograd.Function):
    """h = (x, gate) side by side to x·gelu(gate)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        x, gate = h.chunk(2, dim=-1)
        return x * F.gelu(gate)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        x, gate = h.chunk(2, dim=-1)
        # Into the halves of one tensor, where autograd would put two together.
        dh = torch.empty_like(h)
        dx, dgate = dh.chunk(2, dim=-1)
        torch.mul(dy, F.gelu(gate), out=dx)
        torch.ops.aten.gelu_backward.grad_input(dy * x, gate, grad_input=dgate)
        return dh


def keep_gates_once(denoiser: nn.Module) -> Rewrites:
    """The change of any diffusers model after which its GEGLU layers compute as above: the same values."""
    rewrites = Rewrites()
    for layer in denoiser.modules():
        if type(layer) is GEGLU:
            rewrites.forward(layer, MethodType(_forward, layer))
    return rewrites


def _forward(layer: GEGLU, hidden_states: Tensor) -> Tensor:
    return _Gate.apply(layer.proj(hidden_states))
