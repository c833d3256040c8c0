"""SlowFast networks (Feichtenhofer et al. 2019, 8x8), in the key layout of pytorchvideo, which nobody maintains.

A slow pathway sees every fourth frame with many channels, a fast one sees all of them with few, and what the fast one
finds flows into the slow one after each stage.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from videoduet.errors import InputError

R50 = (3, 4, 6, 3)
"""Residual blocks a stage of a ResNet-50."""
STRIDE = 4
"""Frames of the fast pathway for one of the slow."""
SHRINKS = 32
"""How much smaller a side of a map is than the frame's."""
_EXPANSION = 4


class SlowFastNetwork(nn.Module):
    """The trunk of a SlowFast network: stem and four residual stages of two pathways, without pooling or a head.

    ``stems`` are the channels of the slow and the fast stem, ``fusion`` how many times a fast pathway's channels flow
    into the slow one, ``depths`` the blocks of each stage. The defaults are the ResNet-50 of Kinetics-400, whose maps
    have 2048 and 256 channels. This class can be trained; :class:`reward_model.motion.SlowFast` never changes.
    """

    def __init__(self, stems: Sequence[int] = (64, 8), fusion: int = 2, depths: Sequence[int] = R50):
        super().__init__()
        slow, fast = stems
        self.blocks = nn.ModuleList([_Both(_Stem(slow, 1), _Stem(fast, 5), _Fusion(fast, fusion))])
        inner, slow, fast = (slow, fast), slow + fusion * fast, fast
        for number, depth in enumerate(depths):
            narrow = [width << number for width in inner]
            wide = [_EXPANSION * width for width in narrow]
            stride = 1 if number == 0 else 2
            # The slow pathway looks through time in the deeper stages alone.
            slow_stage = _stage(slow, narrow[0], wide[0], depth, frames=1 if number < 2 else 3, stride=stride)
            fast_stage = _stage(fast, narrow[1], wide[1], depth, frames=3, stride=stride)
            last = number == len(depths) - 1
            self.blocks.append(_Both(slow_stage, fast_stage, None if last else _Fusion(wide[1], fusion)))
            slow, fast = wide[0] + (0 if last else fusion * wide[1]), wide[1]
        self.channels = (slow, fast)

    @property
    def dim(self) -> int:
        """How many numbers a video's features have: the channels of both pathways."""
        return sum(self.channels)

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """The last maps of both pathways, (B, channels, frames, h, w) with h and w a 32nd of the input's, rounded up.

        ``slow`` (B, 3, n, H, W) are frames of ``fast`` (B, 3, T, H, W), n = ceil(T / 4) of them. Raises InputError for
        another number, which the pathways could not be joined with.
        """
        if slow.shape[2] != -(-fast.shape[2] // STRIDE):
            raise InputError(
                f"A slow pathway of {slow.shape[2]} frames does not fit a fast one of {fast.shape[2]}; give "
                f"{-(-fast.shape[2] // STRIDE)}, every {STRIDE}th."
            )
        for block in self.blocks:
            slow, fast = block(slow, fast)
        return slow, fast


class _Both(nn.Module):
    """One stage of both pathways, after which the fast one flows into the slow one, but not after the last."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: "_Fusion | None"):
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        if fusion is not None:
            self.multipathway_fusion = fusion

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        slow, fast = (stage(x) for stage, x in zip(self.multipathway_blocks, (slow, fast), strict=True))
        if "multipathway_fusion" in self._modules:
            slow = torch.cat([slow, self.multipathway_fusion(fast)], dim=1)
        return slow, fast


class _Stem(nn.Module):
    def __init__(self, width: int, frames: int):
        super().__init__()
        self.conv = _convolution(3, width, (frames, 7, 7), stride=2)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.norm(self.conv(x)).relu_())


class _Fusion(nn.Module):
    """What the fast pathway tells the slow one: a convolution over seven frames, for every fourth."""

    def __init__(self, width: int, ratio: int):
        super().__init__()
        self.conv_fast_to_slow = nn.Conv3d(
            width, ratio * width, (7, 1, 1), stride=(STRIDE, 1, 1), padding=(3, 0, 0), bias=False
        )
        self.norm = nn.BatchNorm3d(ratio * width)

    def forward(self, fast: Tensor) -> Tensor:
        return self.norm(self.conv_fast_to_slow(fast)).relu_()


class _Stage(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.res_blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.res_blocks:
            x = block(x)
        return x


def _stage(given: int, narrow: int, wide: int, depth: int, *, frames: int, stride: int) -> _Stage:
    first = _Residual(given, narrow, wide, frames, stride)
    return _Stage([first, *(_Residual(wide, narrow, wide, frames, 1) for _ in range(depth - 1))])


class _Residual(nn.Module):
    """A bottleneck beside a shortcut, which is a convolution where the width or the size changes."""

    def __init__(self, given: int, narrow: int, wide: int, frames: int, stride: int):
        super().__init__()
        if given != wide or stride != 1:
            self.branch1_conv = _convolution(given, wide, (1, 1, 1), stride)
            self.branch1_norm = nn.BatchNorm3d(wide)
        self.branch2 = _Bottleneck(given, narrow, wide, frames, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.branch1_norm(self.branch1_conv(x)) if "branch1_conv" in self._modules else x
        return (shortcut + self.branch2(x)).relu_()


class _Bottleneck(nn.Module):
    def __init__(self, given: int, narrow: int, wide: int, frames: int, stride: int):
        super().__init__()
        self.conv_a, self.norm_a = _convolution(given, narrow, (frames, 1, 1)), nn.BatchNorm3d(narrow)
        self.conv_b, self.norm_b = _convolution(narrow, narrow, (1, 3, 3), stride), nn.BatchNorm3d(narrow)
        self.conv_c, self.norm_c = _convolution(narrow, wide, (1, 1, 1)), nn.BatchNorm3d(wide)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_a(self.conv_a(x)).relu_()
        x = self.norm_b(self.conv_b(x)).relu_()
        return self.norm_c(self.conv_c(x))


def _convolution(given: int, wide: int, kernel: tuple[int, int, int], stride: int = 1) -> nn.Conv3d:
    """A convolution that keeps the number of frames, and of pixels where ``stride`` is 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(given, wide, kernel, stride=(1, stride, stride), padding=padding, bias=False)
