"""A nearest-neighbour doubling and the 3 x 3 convolution after it as one convolution of the small image: of the nine
pixels that a kernel sees at most four differ, so their weights are summed first, to 4/9 of the work.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.fast.fused import interleave

# What each of two taps at the coarse side sums of the three at the fine side, for even and for odd rows.
_SUMS = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def can_sum(conv: nn.Module) -> bool:
    """Whether ``conv`` is of that kind, and no gradients are asked for, whose weights would be summed back."""
    return (
        type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and (conv.padding, conv.groups, conv.padding_mode) == ((1, 1), 1, "zeros")
        and not torch.is_grad_enabled()
    )


def doubled_and_convolved(x: Tensor, conv: nn.Conv2d, weight: Tensor | None = None) -> Tensor:
    """``conv`` (N, O, 2H, 2W) of x (N, C, H, W) with each pixel twice in both directions, channels last in memory.
    ``weight`` is its :func:`summed` one, where it is known.
    """
    coarse = F.conv2d(x, summed(conv.weight) if weight is None else weight, padding=1).permute(0, 2, 3, 1)
    bias = torch.zeros(conv.out_channels, dtype=x.dtype, device=x.device) if conv.bias is None else conv.bias
    return interleave(coarse, bias).permute(0, 3, 1, 2)


def summed(weight: Tensor) -> Tensor:
    """The weights (4·O, C, 2, 2) for even and odd rows and columns, channels last, of ``weight`` (O, C, 3, 3)."""
    sums = torch.tensor(_SUMS, device=weight.device)
    whole = torch.einsum("apk,bql,ockl->abopqc", sums, sums, weight.float()).to(weight.dtype)
    return whole.flatten(0, 2).permute(0, 3, 1, 2)
