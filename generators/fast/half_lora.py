"""A LoRA over weights in half precision whose products are in half precision too, from factors kept in float32.

PEFT widens the input of every layer for its float32 factors: a product off the tensor cores, and a copy of the input
twice as large, which is kept for the gradients. Here the factors are rounded once for each optimizer step, all in one
go; an input is read as it is and kept once, however many layers share it, and the LoRA's product is added to the
base's by the product itself. Gradients arrive in the float32 factors.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from videoduet.rewriting import Rewrites

_CONVOLUTIONS = {nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


class _Rounded(torch.autograd.Function):
    """All factors in ``dtype`` at once: one kernel for them all, and one for their gradients."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *factors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtypes = [factor.dtype for factor in factors]
        return _as(factors, [dtype] * len(factors))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [(g, dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True) if g is not None]
        wide = iter(_as([g for g, _ in there], [dtype for _, dtype in there]))
        return None, *(None if g is None else next(wide) for g in gradients)


def _as(tensors: Any, dtypes: list[torch.dtype]) -> tuple[Tensor, ...]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    if copies:
        torch._foreach_copy_(copies, list(tensors))  # pyright: ignore[reportPrivateImportUsage]
    return tuple(copies)


class _Factors:
    """The factors of ``layers`` in ``dtype``, by layer and adapter."""

    def __init__(self, layers: list[LoraLayer], dtype: torch.dtype):
        self.layers, self.dtype = layers, dtype
        self.rounded: dict[tuple[LoraLayer, str], tuple[Tensor, Tensor]] = {}

    def refresh(self, *_: Any) -> None:
        """Round the adapter in force anew: before every pass, since a fused optimizer's step leaves no trace in a
        tensor's version. Other adapters' stay, for activations that are computed again when gradients need them.
        """
        active = [(layer, layer.active_adapters[0]) for layer in self.layers if not layer.disable_adapters]
        factors = [factor for layer, name in active for factor in _factors(layer, name)]
        # Before new ones are made: their memory, and what they know of the pass before.
        for place in active:
            self.rounded.pop(place, None)
        # What is rounded knows where it is from, whether or not this pass wants gradients.
        with torch.enable_grad():
            rounded = iter(_Rounded.apply(self.dtype, *factors))
        self.rounded |= {place: (next(rounded), next(rounded)) for place in active}


def _factors(layer: LoraLayer, name: str) -> tuple[Tensor, Tensor]:
    down: Any
    up: Any
    down, up = layer.lora_A[name], layer.lora_B[name]
    return down.weight, up.weight


def lora_in_half(model: nn.Module) -> Rewrites:
    """The change of a PEFT ``model`` after which its LoRA layers over weights in half precision compute as above: plain
    LoRA without dropout on linear layers and 2D or 3D convolutions (others stay as they are), outside of autocast.

    Saving, switching, disabling and merging adapters stay PEFT's. Values are PEFT's up to the rounding of the factors
    and of the product's sum; with the LoRA off, or a LoRA of zeros, they are the base's to the last bit.
    """
    rewrites = Rewrites()
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer) and _computes_in_half(layer)]
    dtype: Any
    for dtype in {layer.get_base_layer().weight.dtype for layer in layers}:
        factors = _Factors([layer for layer in layers if layer.get_base_layer().weight.dtype == dtype], dtype)
        rewrites.add(model.register_forward_pre_hook(factors.refresh).remove)
        for layer in factors.layers:
            rewrites.forward(layer, MethodType(_forward(factors), layer))
    return rewrites


def _computes_in_half(layer: LoraLayer) -> bool:
    base: Any = layer.get_base_layer()
    if type(base) in _CONVOLUTIONS and (base.groups > 1 or base.padding_mode != "zeros"):
        return False
    return (
        type(base) in (nn.Linear, *_CONVOLUTIONS)
        and base.weight.dtype in (torch.bfloat16, torch.float16)
        and not any(layer.use_dora.values())
        and not any(layer.lora_bias.values())
    )


def _forward(factors: _Factors) -> Any:
    def forward(layer: LoraLayer, x: Tensor) -> Tensor:
        if layer.merged:
            plain: Any = type(layer)
            return plain.forward(layer, x)
        base = layer.get_base_layer()
        if layer.disable_adapters:
            return _product(base, x)
        (name,) = layer.active_adapters
        return _product(base, x, *factors.rounded[layer, name], layer.scaling[name])

    return forward


def _product(base: Any, x: Tensor, a: Tensor | None = None, b: Tensor | None = None, scaling: float = 1.0) -> Tensor:
    if isinstance(base, nn.Linear):
        # As rows, so that what is added to is no view: autograd would keep and copy more.
        rows = x.reshape(-1, x.shape[-1])
        y = F.linear(rows, base.weight, base.bias)
        if a is not None and b is not None:
            y = y.addmm_(F.linear(rows, a), b.t(), alpha=scaling)
        return y.view(*x.shape[:-1], y.shape[-1])
    convolve = _CONVOLUTIONS[type(base)]
    geometry = {"stride": base.stride, "padding": base.padding, "dilation": base.dilation}
    y = convolve(x, base.weight, base.bias, **geometry)
    if a is not None and b is not None:
        y = y.add_(convolve(convolve(x, a, **geometry), b), alpha=scaling)
    return y
