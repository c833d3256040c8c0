"""Wan 2.1 and 2.2 (``WanPipeline``): a flow-matching transformer, in 2.2's large model two of them.

Wan Team, "Wan: Open and Advanced Large-Scale Video Generative Models" (2025). Weights and code: Apache-2.0.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import WanPipeline
from torch import Tensor, nn

from generators.families.diffusers_base import from_uint8, to_uint8
from generators.families.flow import TRAIN_STEPS, FlowGenerator
from videoduet.records import SamplerSettings

TEXT_LENGTH = 512


class Experts(nn.Module):
    """The two transformers of Wan 2.2's A14B as one module: ``high`` from timestep ``boundary`` on, ``low`` below.

    It holds the pipeline's own two, so an adapter put into it is in force in sampling too.
    """

    def __init__(self, high: nn.Module, low: nn.Module, boundary: float):
        super().__init__()
        self.high, self.low, self.boundary = high, low, boundary

    @property
    def device(self) -> torch.device:
        """Where both are."""
        return self.high.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of both."""
        return self.high.dtype

    def compile(self, *arguments: Any, **named: Any) -> None:
        """Each expert for itself, since sampling calls them so."""
        self.high.compile(*arguments, **named)
        self.low.compile(*arguments, **named)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether either computes activations again for gradients."""
        return self.high.is_gradient_checkpointing or self.low.is_gradient_checkpointing

    def enable_gradient_checkpointing(self) -> None:
        """Let both compute activations again for gradients, as diffusers does for one."""
        self.high.enable_gradient_checkpointing()
        self.low.enable_gradient_checkpointing()

    def disable_gradient_checkpointing(self) -> None:
        """Let both keep their activations."""
        self.high.disable_gradient_checkpointing()
        self.low.disable_gradient_checkpointing()

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **named: Any) -> tuple:
        """As one transformer's; every row goes to the expert of its own timestep."""
        is_high = timestep >= self.boundary
        groups = [(expert, rows.nonzero()[:, 0]) for expert, rows in ((self.high, is_high), (self.low, ~is_high))]
        outputs = [
            (rows, expert(hidden_states[rows], timestep[rows], encoder_hidden_states[rows], **named)[0])
            for expert, rows in groups
            if len(rows)
        ]
        order = torch.cat([rows for rows, _ in outputs]).argsort()
        return (torch.cat([output for _, output in outputs])[order],)


class Wan(FlowGenerator):
    """Wan for sampling (classifier-free guidance, the pipeline's own scheduler) and preference training."""

    pipeline_class: ClassVar = WanPipeline
    full_precision: ClassVar = ("vae",)
    lora_targets: ClassVar[str] = r".*blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"

    def __init__(self, pipeline: WanPipeline, settings: SamplerSettings):
        self._denoiser: nn.Module = pipeline.transformer
        if pipeline.transformer_2 is not None:
            boundary = pipeline.config.boundary_ratio * TRAIN_STEPS
            self._denoiser = Experts(pipeline.transformer, pipeline.transformer_2, boundary)
        super().__init__(pipeline, settings)

    @classmethod
    def default_settings(cls, pipeline: WanPipeline) -> SamplerSettings:
        """50 steps at w 5; 81 frames of 480x832 pixels at 16 a second."""
        return SamplerSettings(steps=50, guidance_scale=5.0, fps=16, num_frames=81, height=480, width=832)

    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T, h, w) under the autoencoder's factors."""
        spatial, temporal = self.pipeline.vae_scale_factor_spatial, self.pipeline.vae_scale_factor_temporal
        config = self.pipeline.transformer.config
        return (config.in_channels, *self.compressed(spatial, temporal, side=max(16, spatial * config.patch_size[1])))

    @property
    def denoiser(self) -> nn.Module:
        """The transformer, or the two of Wan 2.2's A14B as one module."""
        return self._denoiser

    @denoiser.setter
    def denoiser(self, module: nn.Module) -> None:
        """Put ``module``, such as a wrapping in a LoRA, in its place."""
        # Adapters change the experts in place; a single transformer is replaced by its wrapping.
        if self.pipeline.transformer_2 is None:
            self.pipeline.transformer = module
        self._denoiser = module

    @property
    def shift(self) -> float:
        """The scheduler's."""
        config = self.pipeline.scheduler.config
        return config.flow_shift if "flow_shift" in config else config.shift

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read."""
        return TEXT_LENGTH

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32 of the UMT5 encoder."""
        embeds, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=TEXT_LENGTH
        )
        return embeds.float()

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by the pipeline's scheduler with classifier-free guidance."""
        device = self.denoiser.device
        return self.pipeline(
            prompt_embeds=prompt_embeds.to(device),
            negative_prompt_embeds=self.unconditional(len(seeds)).to(device),
            latents=self.noise_batch(seeds),
            output_type="latent",
            **self.sizes(),
        ).frames.float()

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C, 1, 1, 1) that latents are normalised by."""
        config = self.pipeline.vae.config
        return tuple(torch.tensor(values).view(-1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) float32 of frames uint8 (B, T, H, W, 3), normalised as the transformer sees them."""
        vae, (mean, std) = self.pipeline.vae, self._statistics()
        videos = (from_uint8(video, vae.device, vae.dtype).transpose(0, 1)[None] for video in frames)
        return torch.stack([(vae.encode(video).latent_dist.mode()[0].float().cpu() - mean) / std for video in videos])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W, 3) of latents (B, C, T, h, w)."""
        vae, (mean, std) = self.pipeline.vae, self._statistics()
        videos = []
        for latent in latents.cpu():
            pixels = vae.decode((latent * std + mean)[None].to(vae.device, vae.dtype)).sample[0]
            videos.append(to_uint8(pixels.transpose(0, 1)))
        return torch.stack(videos)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The predicted velocity (B, C, T, h, w), float32."""
        denoiser, dtype = self.denoiser, self.denoiser.dtype
        if self.pipeline.config.expand_timesteps:
            # Wan 2.2's 5B model is told the timestep of every token.
            _, height, width = self.pipeline.transformer.config.patch_size
            tokens = noisy.shape[2] * (noisy.shape[3] // height) * (noisy.shape[4] // width)
            timesteps = timesteps[:, None].expand(-1, tokens)
        return denoiser(noisy.to(dtype), timesteps, prompt_embeds.to(dtype), return_dict=False)[0].float()
