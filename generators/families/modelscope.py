"""ModelScope text-to-video (``TextToVideoSDPipeline``): an ε-predicting UNet with classifier-free guidance.

Wang et al., "ModelScope Text-to-Video Technical Report" (2023). The weights of ``ali-vilab/text-to-video-ms-1.7b`` are
licensed cc-by-nc-4.0: not for commercial use.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import TextToVideoSDPipeline
from torch import Tensor

from generators.families.unet_base import UNetGenerator
from videoduet.records import SamplerSettings


class ModelScope(UNetGenerator):
    """ModelScope for sampling (with the pipeline's own scheduler) and preference training on all its timesteps."""

    pipeline_class: ClassVar = TextToVideoSDPipeline

    @classmethod
    def default_settings(cls, pipeline: TextToVideoSDPipeline) -> SamplerSettings:
        """50 steps at w 9; 16 frames at 8 a second, of the UNet's own size."""
        height, width = cls.native_size(pipeline)
        return SamplerSettings(steps=50, guidance_scale=9.0, fps=8, num_frames=16, height=height, width=width)

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32 of CLIP's text encoder."""
        embeds, _ = self.pipeline.encode_prompt(list(texts), self.denoiser.device, 1, False)
        return embeds.float()

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by the pipeline's scheduler with classifier-free guidance."""
        device, dtype = self.denoiser.device, self.denoiser.dtype
        return self.pipeline(
            prompt_embeds=prompt_embeds.to(device, dtype),
            negative_prompt_embeds=self.unconditional(len(seeds)).to(device, dtype),
            latents=self.noise_batch(seeds).to(dtype),
            generator=self.step_generators(seeds),
            output_type="latent",
            **self.sizes(),
        ).frames.float()

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The predicted ε (B, C, T, h, w), float32."""
        unet, dtype = self.denoiser, self.denoiser.dtype
        return unet(noisy.to(dtype), timesteps, prompt_embeds.to(dtype)).sample.float()
