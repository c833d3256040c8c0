"""LTX-Video (``LTXPipeline``): a flow-matching transformer on strongly compressed latents.

HaCohen et al., "LTX-Video: Realtime Video Latent Diffusion" (2024). Weights: Lightricks' own licence, see their page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from diffusers import LTXPipeline
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from torch import Tensor

from generators.families.diffusers_base import from_uint8, to_uint8
from generators.families.flow import FlowGenerator
from videoduet.records import SamplerSettings

TEXT_LENGTH = 128
"""Tokens of a prompt that the pipeline reads where it is not told otherwise."""


class LTX(FlowGenerator):
    """LTX-Video for sampling (classifier-free guidance, the pipeline's own scheduler) and preference training.

    Conditioning is zero where the text was padded, and by that the mask is known again.
    """

    pipeline_class: ClassVar = LTXPipeline
    lora_targets: ClassVar[str] = (
        r".*transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
    )

    @classmethod
    def default_settings(cls, pipeline: LTXPipeline) -> SamplerSettings:
        """50 steps at w 3; 161 frames of 512x704 pixels at 25 a second."""
        return SamplerSettings(steps=50, guidance_scale=3.0, fps=25, num_frames=161, height=512, width=704)

    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T, h, w) under the autoencoder's strong compression."""
        pipeline = self.pipeline
        spatial, temporal = pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio
        return (pipeline.transformer.config.in_channels, *self.compressed(spatial, temporal, side=max(32, spatial)))

    @property
    def shift(self) -> float:
        """It grows with the number of tokens, as in sampling."""
        config = self.pipeline.scheduler.config
        if not config.use_dynamic_shifting:
            return config.shift
        bounds = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        return math.exp(calculate_shift(math.prod(self._latent_shape[1:]), *bounds))

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read."""
        return TEXT_LENGTH

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32 of the T5 encoder, zero where the text was padded."""
        embeds, mask, _, _ = self.pipeline.encode_prompt(list(texts), do_classifier_free_guidance=False)
        return embeds.float() * mask[..., None]

    @staticmethod
    def _mask(prompt_embeds: Tensor) -> Tensor:
        return (prompt_embeds != 0).any(dim=-1)

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by the pipeline's scheduler with classifier-free guidance."""
        device, dtype = self.denoiser.device, self.denoiser.dtype
        empty = self.unconditional(len(seeds)).to(device)
        packed = self.pipeline(
            prompt_embeds=prompt_embeds.to(device, dtype),
            prompt_attention_mask=self._mask(prompt_embeds).to(device),
            negative_prompt_embeds=empty.to(dtype),
            negative_prompt_attention_mask=self._mask(empty),
            latents=self._pack(self.noise_batch(seeds)),
            frame_rate=self.settings.fps,
            output_type="latent",
            **self.sizes(),
        ).frames.float()
        return self._unpack(packed, self._latent_shape)

    def _pack(self, latents: Tensor) -> Tensor:
        patch, patch_t = self.pipeline.transformer_spatial_patch_size, self.pipeline.transformer_temporal_patch_size
        return self.pipeline._pack_latents(latents, patch, patch_t)

    def _unpack(self, packed: Tensor, shape: Sequence[int]) -> Tensor:
        patch, patch_t = self.pipeline.transformer_spatial_patch_size, self.pipeline.transformer_temporal_patch_size
        return self.pipeline._unpack_latents(packed, *shape[-3:], patch, patch_t)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C, 1, 1, 1) that latents are normalised by."""
        vae = self.pipeline.vae
        return tuple(values.float().cpu().view(-1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) float32 of frames uint8 (B, T, H, W, 3), normalised as the transformer sees them."""
        vae, (mean, std) = self.pipeline.vae, self._statistics()
        videos = (from_uint8(video, vae.device, vae.dtype).transpose(0, 1)[None] for video in frames)
        encoded = torch.stack([vae.encode(video).latent_dist.mode()[0].float().cpu() for video in videos])
        return (encoded - mean) * vae.config.scaling_factor / std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W, 3) of latents (B, C, T, h, w)."""
        (mean, std), vae, videos = self._statistics(), self.pipeline.vae, []
        # The pipeline's default: the newer autoencoders are told that nothing is left to denoise.
        timestep = torch.zeros(1, device=vae.device, dtype=vae.dtype) if vae.config.timestep_conditioning else None
        for latent in latents.cpu():
            scaled = (latent * std / vae.config.scaling_factor + mean)[None].to(vae.device, vae.dtype)
            # Some of its decoders add noise of their own.
            with torch.random.fork_rng(devices=[vae.device] if vae.device.type == "cuda" else []):
                torch.manual_seed(0)
                videos.append(to_uint8(vae.decode(scaled, timestep).sample[0].transpose(0, 1)))
        return torch.stack(videos)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The predicted velocity (B, C, T, h, w), float32; each sample is told its own frame rate."""
        told = {name: value.to(noisy.device) for name, value in self.told(settings).items()}
        return self.predict_told(noisy, timesteps, prompt_embeds, told)

    def told(self, settings: Sequence[SamplerSettings]) -> dict[str, Tensor]:
        """Each sample's frame rate."""
        return {"fps": torch.tensor([setting.fps for setting in settings])}

    def predict_told(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, told: Mapping[str, Tensor]
    ) -> Tensor:
        """As :meth:`predict`."""
        denoiser, pipeline, fps = self.denoiser, self.pipeline, told["fps"].view(-1, 1, 1, 1, 1)
        spatial = pipeline.vae_spatial_compression_ratio
        packed = denoiser(
            self._pack(noisy).to(denoiser.dtype), prompt_embeds.to(denoiser.dtype), timesteps,
            encoder_attention_mask=self._mask(prompt_embeds),
            num_frames=noisy.shape[2], height=noisy.shape[3], width=noisy.shape[4],
            rope_interpolation_scale=(pipeline.vae_temporal_compression_ratio / fps, spatial, spatial),
            return_dict=False,
        )[0]  # fmt: skip
        return self._unpack(packed.float(), noisy.shape)
