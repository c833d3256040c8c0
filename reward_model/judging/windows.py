"""The attention of a vision tower over windows and frames of like length together.

Without flash attention's package the library calls attention once for each window: 640 times in each of 28 layers for
ten videos of 8 frames of 448x448. Neighbouring windows of one length are one call here.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from reward_model.families import family_of
from reward_model.families.base import plain_model
from videoduet.rewriting import Rewrites

EVEN = 64
"""Numbers. A product whose sides are multiples of so many runs at full speed."""


def attend_windows(query: Tensor, key: Tensor, value: Tensor, ends: list[int], scale: float) -> Tensor:
    """Attention (tokens, heads, head dim) within windows that end at ``ends``; inputs are of the same shape."""
    lengths = (end - start for start, end in itertools.pairwise([0, *ends]))
    found, start = [], 0
    for length, alike in itertools.groupby(lengths):
        count = sum(1 for _ in alike)
        tokens = slice(start, start + count * length)
        asked, seen, taken = (
            each[tokens].reshape(count, length, *each.shape[1:]).transpose(1, 2) for each in (query, key, value)
        )
        attended = functional.scaled_dot_product_attention(asked, seen, taken, scale=scale)
        found.append(attended.transpose(1, 2).flatten(0, 1))
        start = tokens.stop
    return torch.cat(found)


class WindowsTogether(Rewrites):
    """Lets the attention layers of the vision tower ``visual`` of a Qwen2.5-VL or Qwen3-VL attend to windows of like
    length together, and others compute with even numbers (:func:`wider`), until it is undone.
    """

    def __init__(self, visual: Any):
        super().__init__()
        self._ends: tuple[Any, list[int]] = (None, [])
        for block in visual.blocks:
            self.forward(block.attn, partial(self._attended, block.attn))
            if (gated := wider(block.mlp)) is not None:
                self.forward(block.mlp, gated)

    def _attended(
        self, attention: Any, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: Any, **_: Any
    ) -> Tensor:
        count = len(hidden_states)
        query, key, value = attention.qkv(hidden_states).reshape(count, 3, attention.num_heads, -1).unbind(1)
        cos, sin = (each[:, None].float() for each in position_embeddings)
        found = attend_windows(
            _rotated(query, cos, sin), _rotated(key, cos, sin), value, self._ends_of(cu_seqlens), attention.scaling
        )
        return attention.proj(found.reshape(count, -1))

    def _ends_of(self, cumulative: Tensor) -> list[int]:
        # Read from the device where they change, a few times in a forward, and not in every layer.
        if self._ends[0] is not cumulative:
            self._ends = (cumulative, cumulative[1:].tolist())
        return self._ends[1]


def wider(mlp: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward of a gated ``mlp`` whose width is filled up to a multiple of ``EVEN`` with zeros, which add nothing;
    None where that is done already, or its layers are not plain ones.

    Qwen2.5-VL's is 3,420 wide: rows of weights that start at odd addresses, where a GPU's fast products do not go.
    """
    named = (getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    layers = [layer for layer in named if type(layer) is torch.nn.Linear]
    if len(layers) < 3 or layers[0].out_features % EVEN == 0:
        return None
    missing = -layers[0].out_features % EVEN
    gate, up = (_rows_added(layer, missing) for layer in layers[:2])
    down, bias = functional.pad(layers[2].weight, (0, missing)), layers[2].bias

    def forward(states: Tensor) -> Tensor:
        inner = mlp.act_fn(functional.linear(states, *gate)) * functional.linear(states, *up)
        return functional.linear(inner, down, bias)

    return forward


def _rows_added(layer: torch.nn.Linear, count: int) -> tuple[Tensor, Tensor | None]:
    bias: Tensor | None = layer.bias
    return functional.pad(layer.weight, (0, 0, 0, count)), None if bias is None else functional.pad(bias, (0, count))


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    exact = states.float()
    left, right = exact.chunk(2, -1)
    return (exact * cos + torch.cat([-right, left], -1) * sin).to(states.dtype)


def windows_together(model: Any) -> Rewrites:
    """:class:`WindowsTogether` of a judge's vision tower on a GPU, for a ``with`` block. A CPU gains nothing by it."""
    if model.device.type != "cuda" or not family_of(model).windowed:
        return Rewrites()
    return WindowsTogether(plain_model(model).model.visual)
