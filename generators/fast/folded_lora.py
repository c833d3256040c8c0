"""A LoRA layer as one product with W + s·B·A in place of three, for float32: fewer operations, less to keep.

PEFT computes W·x + s·B(A·x), which for a denoiser as narrow as its LoRA's rank doubles the work, and keeps A·x for the
gradients. Here nothing but x is kept, W + s·B·A is made again when gradients need it, and the factors' gradients come
the cheaper way. In half precision the sum would round a small s·B·A away, so there PEFT's way stays.

On a CPU a linear layer over many rows is computed as a convolution over points: those go to oneDNN, which uses the
whole vector width of any CPU, while PyTorch's products of matrices go to MKL, which uses half of it on AMD CPUs with
AVX-512.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight, conv3d_input, conv3d_weight

from videoduet.rewriting import Rewrites

_CONVOLUTIONS = {
    nn.Conv2d: (F.conv2d, conv2d_input, conv2d_weight),
    nn.Conv3d: (F.conv3d, conv3d_input, conv3d_weight),
}


class _Linear:
    """y = x·Wᵀ and its gradients; x (..., in), W (out, in)."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not _convolves(x):
            return F.linear(x, weight, bias)
        y = F.conv2d(_points(x), weight[:, :, None, None], bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))

    def input_gradient(self, shape: torch.Size, weight: Tensor, dy: Tensor) -> Tensor:
        return self.forward(dy, weight.t())

    def weight_gradient(self, x: Tensor, shape: torch.Size, dy: Tensor) -> Tensor:
        if not _convolves(x):
            return dy.flatten(0, -2).t() @ x.flatten(0, -2)
        return conv2d_weight(_points(x), (*shape, 1, 1), _points(dy)).flatten(1)

    def pointwise(self, dy: Tensor, weight: Tensor) -> Tensor:
        return self.forward(dy, weight.t())

    def outer(self, dy: Tensor, z: Tensor) -> Tensor:
        return self.weight_gradient(z, torch.Size((dy.shape[-1], z.shape[-1])), dy)


IMAGES = 16
"""Fewer images than that PyTorch keeps from oneDNN on a single thread."""
ROWS = 512
"""With fewer rows a convolution takes longer to start than the product takes."""


def _convolves(x: Tensor) -> bool:
    """Whether x (..., C) goes through oneDNN: by its rows alone, so that forward and gradients agree."""
    rows = x.shape[:-1].numel()
    return (
        x.is_cpu
        and x.dtype == torch.float32
        and rows >= ROWS
        and rows % IMAGES == 0
        and torch.backends.mkldnn.is_available()
    )


def _points(x: Tensor) -> Tensor:
    """x (..., C) as images (IMAGES, C, N / IMAGES, 1), without a copy: channels lie last in memory."""
    return x.reshape(IMAGES, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


class _Convolution:
    """y = x * W and its gradients; x (N, in, ...), W (out, in, ...), with the strides and padding of ``layer``."""

    def __init__(self, layer: nn.Module):
        self._forward, self._input, self._weight = _CONVOLUTIONS[type(layer)]
        self.geometry = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        self.point = (1,) * len(layer.kernel_size)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._forward(x, weight, bias, **self.geometry)

    def input_gradient(self, shape: torch.Size, weight: Tensor, dy: Tensor) -> Tensor:
        return self._input(shape, weight, dy, **self.geometry)

    def weight_gradient(self, x: Tensor, shape: torch.Size, dy: Tensor) -> Tensor:
        return self._weight(x, shape, dy, **self.geometry)

    def pointwise(self, dy: Tensor, weight: Tensor) -> Tensor:
        return self._forward(dy, weight.t().reshape(*weight.t().shape, *self.point))

    def outer(self, dy: Tensor, z: Tensor) -> Tensor:
        return self._weight(z, (dy.shape[1], z.shape[1], *self.point), dy).flatten(1)


class _FoldedLora(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float, op):
        ctx.save_for_backward(x, weight, a, b)
        ctx.scaling, ctx.op = scaling, op
        return op.forward(x, _folded(weight, a, b, scaling), bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor):
        x, weight, a, b = ctx.saved_tensors
        op, flat_a, flat_b = ctx.op, a.flatten(1), b.flatten(1)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = op.input_gradient(x.shape, _folded(weight, a, b, ctx.scaling), dy)
        rank, taps = flat_a.shape
        # At equal work through the gradient of W, which reads x and dy once.
        if len(weight) * taps <= 2 * rank * (len(weight) + taps):
            dw = op.weight_gradient(x, weight.shape, dy).flatten(1)
            da, db = flat_b.t() @ dw, dw @ flat_a.t()
        else:
            da = op.weight_gradient(x, a.shape, op.pointwise(dy, flat_b))
            db = op.outer(dy, op.forward(x, a))
        return dx, None, None, (ctx.scaling * da).view_as(a), (ctx.scaling * db).view_as(b), None, None


def _folded(weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    return torch.addmm(weight.flatten(1), b.flatten(1), a.flatten(1), alpha=scaling).view_as(weight)


def fold_lora(model: nn.Module) -> Rewrites:
    """The change of a PEFT ``model`` after which its LoRA layers compute as above: plain LoRA without dropout, on
    linear layers and 2D or 3D convolutions in float32 (others stay as they are), outside of autocast. Saving,
    switching, disabling and merging adapters stay PEFT's. Values are PEFT's up to rounding, about 1e-6 of an output.
    """
    rewrites = Rewrites()
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and _foldable(layer):
            rewrites.forward(layer, MethodType(_forward, layer))
    return rewrites


def _foldable(layer: LoraLayer) -> bool:
    base = layer.get_base_layer()
    if type(base) in _CONVOLUTIONS and (
        base.groups > 1 or base.padding_mode != "zeros" or isinstance(base.padding, str)
    ):
        return False
    return (
        type(base) in (nn.Linear, *_CONVOLUTIONS)
        and base.weight.dtype.itemsize >= torch.float32.itemsize
        and not any(layer.use_dora.values())
        and not any(layer.lora_bias.values())
    )


def _forward(layer: LoraLayer, x: Tensor) -> Tensor:
    if layer.merged:
        return type(layer).forward(layer, x)
    base = layer.get_base_layer()
    op = _Linear() if isinstance(base, nn.Linear) else _Convolution(base)
    if layer.disable_adapters:
        # By the same kernel: a LoRA of zeros is then equal to its base to the last bit.
        return op.forward(x, base.weight, base.bias)
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return _FoldedLora.apply(x, base.weight, base.bias, a, b, layer.scaling[name], op)
