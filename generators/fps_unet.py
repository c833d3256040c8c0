"""VideoCrafter2's UNet with its frame rate as an input: stock ``UNet3DConditionModel`` plus one embedding."""

from typing import Any

import torch

# ModelMixin is found here by diffusers when a pipeline's directory names this module.
from diffusers import ModelMixin, UNet3DConditionModel  # noqa: F401
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

DEFAULT_FPS = 16
"""Frames per second where none are given, as in VideoCrafter2."""


def fps_sinusoid(fps: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (B, dim) of frame rates (B,), cosines first, float32."""
    return get_timestep_embedding(fps, dim, flip_sin_to_cos=True, downscale_freq_shift=0)


class FpsTimestepEmbedding(TimestepEmbedding):
    """A timestep embedding to which one of the frame rate is added: ``time(t, w) + fps_embedding(sin(fps))``."""

    def __init__(self, in_channels: int, time_embed_dim: int, **arguments: Any):
        super().__init__(in_channels, time_embed_dim, **arguments)
        self.fps_embedding = TimestepEmbedding(in_channels, time_embed_dim)
        self.fps: Tensor = torch.tensor([DEFAULT_FPS])

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        """The embedding (B, D) of a timestep's sinusoid (B, C), a condition (B, W) and the frame rate in force."""
        sinusoid = fps_sinusoid(self.fps.to(sample.device), sample.shape[-1]).to(sample.dtype)
        return super().forward(sample, condition) + self.fps_embedding(sinusoid)


def takes_fps(unet: nn.Module) -> bool:
    """Whether ``unet``, or what it wraps, is told the frame rate."""
    return any(isinstance(module, FpsTimestepEmbedding) for module in unet.modules())


class FpsUNet3DConditionModel(UNet3DConditionModel):
    """``UNet3DConditionModel`` that takes ``fps``; where the frame rate is fixed it can be folded into the stock class
    instead (:func:`generators.convert.vc2_unet`).
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
        up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        time_cond_proj_dim: int | None = None,
    ):
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            time_cond_proj_dim=time_cond_proj_dim,
        )
        width = block_out_channels[0]
        self.time_embedding = FpsTimestepEmbedding(width, 4 * width, act_fn="silu", cond_proj_dim=time_cond_proj_dim)

    def forward(self, sample: Tensor, *arguments: Any, fps: Tensor | int = DEFAULT_FPS, **named: Any) -> Any:
        """As the stock class; ``fps`` is one number or one for each video (B,)."""
        # A number is made on the device: a copy from the CPU would have it wait.
        told = fps if isinstance(fps, Tensor) else torch.full((1,), fps, device=sample.device)
        self.time_embedding.fps = told.to(sample.device).reshape(-1)
        return super().forward(sample, *arguments, **named)
