"""CogVideoX (``CogVideoXPipeline``): a v-predicting transformer.

Yang et al., "CogVideoX: Text-to-Video Diffusion Models with An Expert Transformer" (2024). Weights of the 2B model:
Apache-2.0; of the 5B models: the CogVideoX licence, whose commercial use needs registration.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import CogVideoXPipeline
from torch import Tensor

from generators.families.diffusers_base import DiffusersGenerator, from_uint8, to_uint8
from videoduet.records import SamplerSettings


class CogVideoX(DiffusersGenerator):
    """CogVideoX for sampling (classifier-free guidance, the pipeline's own scheduler) and preference training.

    The pipeline has time before channels; latents here are (B, C, T, h, w) as everywhere. CogVideoX 1.5 pads time in
    front to a multiple of its patch: the padding is part of the latents and is left out of the frames.
    """

    pipeline_class: ClassVar = CogVideoXPipeline
    lora_targets: ClassVar[str] = r".*transformer_blocks\.\d+\.(attn1\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"

    @classmethod
    def default_settings(cls, pipeline: CogVideoXPipeline) -> SamplerSettings:
        """50 steps at w 6 and 8 frames a second, of the length and size that the transformer was made for."""
        config, factor = pipeline.transformer.config, pipeline.vae_scale_factor_spatial
        return SamplerSettings(
            steps=50, guidance_scale=6.0, fps=8, num_frames=config.sample_frames,
            height=config.sample_height * factor, width=config.sample_width * factor,
        )  # fmt: skip

    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T, h, w), the padding of time in front included."""
        pipeline, config = self.pipeline, self.pipeline.transformer.config
        spatial = pipeline.vae_scale_factor_spatial
        frames, height, width = self.compressed(
            spatial, pipeline.vae_scale_factor_temporal, side=spatial * config.patch_size
        )
        self._padding = -frames % (config.patch_size_t or 1)
        return config.in_channels, frames + self._padding, height, width

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read."""
        return self.pipeline.transformer.config.max_text_seq_length

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32 of the T5 encoder."""
        length = self.pipeline.transformer.config.max_text_seq_length
        embeds, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=length
        )
        return embeds.float()

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by the pipeline's scheduler with classifier-free guidance."""
        denoiser = self.denoiser
        return (
            self.pipeline(
                prompt_embeds=prompt_embeds.to(denoiser.device, denoiser.dtype),
                negative_prompt_embeds=self.unconditional(len(seeds)).to(denoiser.device, denoiser.dtype),
                latents=self.noise_batch(seeds).transpose(1, 2).to(denoiser.dtype),
                generator=self.step_generators(seeds),
                output_type="latent",
                **self.sizes(),
            )
            .frames.transpose(1, 2)
            .float()
        )

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) float32 of frames uint8 (B, T, H, W, 3), padded in front."""
        vae, latents = self.pipeline.vae, []
        for video in frames:
            pixels = from_uint8(video, vae.device, vae.dtype).transpose(0, 1)[None]
            encoded = vae.encode(pixels).latent_dist.mode()[0].float().cpu() * vae.config.scaling_factor
            # As CogVideoX 1.5 was trained: the padding in front repeats the first.
            latents.append(torch.cat([encoded[:, :1]] * self._padding + [encoded], dim=1))
        return torch.stack(latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W, 3) of latents (B, C, T, h, w), without what the padding decodes to."""
        vae, videos = self.pipeline.vae, []
        for latent in latents[:, :, self._padding :]:
            scaled = (latent / vae.config.scaling_factor)[None].to(vae.device, vae.dtype)
            videos.append(to_uint8(vae.decode(scaled).sample[0].transpose(0, 1)))
        return torch.stack(videos)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The velocity v (B, C, T, h, w)."""
        return self.pipeline.scheduler.get_velocity(latents, noise, timesteps)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The predicted v (B, C, T, h, w), float32."""
        denoiser, pipeline = self.denoiser, self.pipeline
        rotary = None
        if denoiser.config.use_rotary_positional_embeddings:
            factor = pipeline.vae_scale_factor_spatial
            height, width = noisy.shape[3] * factor, noisy.shape[4] * factor
            rotary = pipeline._prepare_rotary_positional_embeddings(height, width, noisy.shape[2], noisy.device)
        return (
            denoiser(
                noisy.transpose(1, 2).to(denoiser.dtype), prompt_embeds.to(denoiser.dtype), timesteps,
                image_rotary_emb=rotary, return_dict=False,
            )[0].transpose(1, 2).float()
        )  # fmt: skip
