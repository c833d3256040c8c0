"""What lies between a model's products, over rows of channels: on a GPU without gradients by one Triton kernel each,
elsewhere by PyTorch's own functions. Values are the same up to rounding: in half precision the kernels round less.

Rows are (N, S, C), contiguous: N samples of S positions each.
"""

import math
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoduet.gpu import kernels_run

WORK = 512
"""Rows that one program of the first pass of a group norm goes through."""

MOST_FRAMES = 64
"""Frames that one program of the attention over time sees; longer videos take PyTorch's."""


def by_kernel(x: Tensor) -> bool:
    """Whether a kernel computes on ``x``: they know no gradients, and cannot be built everywhere."""
    return x.is_cuda and not torch.is_grad_enabled() and kernels_run(x.device)


def group_norm(rows: Tensor, norm: nn.GroupNorm, *, act: bool, add: Tensor | None = None) -> Tensor:
    """Rows (N, S, C): the group norm of ``rows`` + ``add`` over positions and each group's channels, and its SiLU for
    ``act``. ``add`` is (C,), or (N, C) for one vector a sample.
    """
    if by_kernel(rows):
        return _group_norm(rows, norm, act, add)
    if add is not None:
        rows = rows + add.to(rows.dtype).unsqueeze(-2)
    normed = F.group_norm(rows.transpose(1, 2), norm.num_groups, norm.weight, norm.bias, norm.eps).transpose(1, 2)
    return F.silu(normed) if act else normed


def _group_norm(rows: Tensor, norm: nn.GroupNorm, act: bool, add: Tensor | None) -> Tensor:
    kernels = _kernels()
    rows = rows.contiguous()
    samples, positions, channels = rows.shape
    width, chunks = channels // norm.num_groups, -(-positions // WORK)
    block = min(64, _power(channels))
    sums = torch.empty(samples, chunks, 2, channels, dtype=torch.float32, device=rows.device)
    scales = torch.empty(samples, 2, channels, dtype=torch.float32, device=rows.device)
    blocks = -(-channels // block)
    kernels.channel_sums[(chunks, samples, blocks)](
        rows, sums, positions, channels, chunks, ROWS=WORK, BLOCK_S=32, BLOCK_C=block
    )
    kernels.group_scales[(samples, norm.num_groups)](
        sums, norm.weight, norm.bias, sums if add is None else add, scales, positions, channels, chunks,
        channels if add is not None and add.ndim > 1 else 0, norm.eps, WIDTH=width, HAS_ADD=add is not None,
        BLOCK_W=_power(width), BLOCK_CHUNKS=_power(chunks),
    )  # fmt: skip
    out = torch.empty_like(rows)
    kernels.scaled[(-(-positions // 64), samples, blocks)](
        rows, scales, out, positions, channels, ACT=act, BLOCK_S=64, BLOCK_C=block
    )
    return out


def add_all(x: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
    """Rows ``x`` + ``bias`` (C,) + ``residual``; ``x`` may be overwritten by it, where no gradients are asked for."""
    if bias is None:
        return x + residual
    if not by_kernel(x):
        return x + bias.to(x.dtype) + residual
    kernels = _kernels()
    x, residual = x.contiguous(), residual.contiguous()
    channels = x.shape[-1]
    rows, block = x.numel() // channels, min(64, _power(channels))
    kernels.added[(-(-rows // 64), -(-channels // block))](
        x, bias, residual, x, rows, channels, BLOCK_S=64, BLOCK_C=block
    )
    return x


def gate(h: Tensor) -> Tensor:
    """x·gelu(g) (..., W) of ``h`` (..., 2W) = (x, g), as diffusers' GEGLU."""
    if not by_kernel(h):
        x, g = h.chunk(2, dim=-1)
        return x * F.gelu(g)
    kernels = _kernels()
    h, width = h.contiguous(), h.shape[-1] // 2
    out = h.new_empty(*h.shape[:-1], width)
    rows, block = out.numel() // width, min(256, _power(width))
    kernels.gated[(-(-rows // 8), -(-width // block))](h, out, rows, width, BLOCK_R=8, BLOCK_W=block)
    return out


def add_layer_norm(x: Tensor, add: Tensor | None, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """(x + add, its layer norm), rows both; ``add`` may be None."""
    if not by_kernel(x):
        total = x if add is None else x + add
        return total, norm(total)
    kernels = _kernels()
    x = x.contiguous()
    total, out, width = x if add is None else torch.empty_like(x), torch.empty_like(x), x.shape[-1]
    rows, block = x.numel() // width, _power(width)
    at_once = max(1, 2048 // block)
    kernels.layer_normed[(-(-rows // at_once),)](
        x, x if add is None else add.contiguous(), total, out, norm.weight, norm.bias, rows, width, norm.eps,
        HAS_ADD=add is not None, BLOCK_R=at_once, BLOCK_C=block,
    )  # fmt: skip
    return total, out


def attend_over_time(query: Tensor, key: Tensor, value: Tensor, heads: int, frames: int) -> Tensor:
    """Self-attention over the frames of each pixel: rows (B, T·S, C) in the order frame, pixel, of ``query``, ``key``
    and ``value`` of that shape, which may be parts of wider rows.
    """
    videos, length, channels = query.shape
    pixels, dim = length // frames, channels // heads
    if not by_kernel(query) or frames > MOST_FRAMES:
        q, k, v = (x.unflatten(1, (frames, pixels)).unflatten(-1, (heads, dim)) for x in (query, key, value))
        q, k, v = (x.permute(0, 2, 3, 1, 4).flatten(0, 1) for x in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return attended.unflatten(0, (videos, pixels)).permute(0, 3, 1, 2, 4).reshape(videos, length, channels)
    kernels = _kernels()
    out = torch.empty(videos, length, channels, dtype=query.dtype, device=query.device)
    block = max(64, _power(frames))
    together = block // frames
    kernels.attended_over_time[(-(-pixels // together), heads, videos)](
        query, key, value, out, pixels, query.stride(1), key.stride(1), value.stride(1), channels, dim**-0.5,
        T=frames, D=dim, PIXELS=together, BLOCK_M=block, BLOCK_D=max(16, _power(dim)),
    )  # fmt: skip
    return out


def interleave(coarse: Tensor, bias: Tensor) -> Tensor:
    """Images (N, 2H, 2W, O) of four (N, H + 1, W + 1, 4·O), side by side in channels, for even and odd rows and
    columns: each pixel is that of its own one, ``bias`` (O,) added.
    """
    samples, height, width, channels = coarse.shape
    height, width, out = height - 1, width - 1, channels // 4
    fine = torch.empty(samples, height, 2, width, 2, out, dtype=coarse.dtype, device=coarse.device)
    if by_kernel(coarse):
        rows, block = 4 * samples * height * width, min(128, _power(out))
        _kernels().interleaved[(-(-rows // 32), -(-out // block))](
            coarse.contiguous(), bias, fine, rows, height, width, out, BLOCK_S=32, BLOCK_C=block
        )
    else:
        for phase, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            part = coarse[:, row : row + height, column : column + width, phase * out : (phase + 1) * out]
            torch.add(part, bias, out=fine[:, :, row, :, column])
    return fine.view(samples, 2 * height, 2 * width, out)


def _kernels() -> Any:
    """:mod:`generators.fast.kernels`: only where it is used, since Triton is not installed everywhere, and without its
    types, since its launches are no calls of Python's.
    """
    return import_module("generators.fast.kernels")


def _power(n: int) -> int:
    """The least power of two that is at least ``n``."""
    return 1 << max(0, math.ceil(math.log2(n)))
