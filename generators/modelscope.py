"""ModelScope text-to-video (``TextToVideoSDPipeline``): an ε-predicting UNet with classifier-free guidance.

Wang et al., "ModelScope Text-to-Video Technical Report" (2023). The weights of ``ali-vilab/text-to-video-ms-1.7b`` are
licensed cc-by-nc-4.0: not for commercial use.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import TextToVideoSDPipeline
from torch import Tensor, nn

from generators.base import Generator, override
from generators.t2v_turbo import T2VTurbo
from videoduet.errors import InputError
from videoduet.records import SamplerSettings


class ModelScope(Generator):
    """ModelScope for sampling (with the pipeline's own scheduler) and preference training on all its timesteps."""

    lora_targets: ClassVar[str] = T2VTurbo.lora_targets

    def __init__(self, pipeline: TextToVideoSDPipeline, settings: SamplerSettings):
        self.pipeline, self.settings = pipeline, settings
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.unet.eval()
        self._empty: Tensor | None = None

    @classmethod
    def from_pretrained(cls, path: str | Path, *, sampler: dict, dtype: torch.dtype = torch.float32) -> "ModelScope":
        try:
            pipeline = TextToVideoSDPipeline.from_pretrained(path, torch_dtype=dtype)
        except OSError as error:
            raise InputError(f"Generator {path} cannot be loaded ({error}); give a diffusers directory.") from error
        size = pipeline.unet.config.sample_size
        height, width = [side * pipeline.vae_scale_factor for side in ((size, size) if isinstance(size, int) else size)]
        defaults = SamplerSettings(steps=50, guidance_scale=9.0, fps=8, num_frames=16, height=height, width=width)
        return cls(pipeline, override(defaults, sampler))

    @property
    def denoiser(self) -> nn.Module:
        return self.pipeline.unet

    @denoiser.setter
    def denoiser(self, module: nn.Module) -> None:
        self.pipeline.unet = module

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        embeds, self._empty = self.pipeline.encode_prompt(list(texts), self.denoiser.device, 1, True)
        return embeds.float()

    def initial_noise(self, seed: int) -> Tensor:
        factor, settings = self.pipeline.vae_scale_factor, self.settings
        shape = (settings.num_frames, settings.height // factor, settings.width // factor)
        channels = self.pipeline.unet.config.in_channels
        return torch.randn((channels, *shape), generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        device, settings = self.denoiser.device, self.settings
        noise = torch.stack([self.initial_noise(seed) for seed in seeds]).to(device, self.denoiser.dtype)
        return self.pipeline(
            prompt_embeds=prompt_embeds.to(device, self.denoiser.dtype),
            negative_prompt_embeds=self._empty[:1].expand(len(seeds), -1, -1).to(self.denoiser.dtype),
            height=settings.height,
            width=settings.width,
            num_frames=settings.num_frames,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            latents=noise,
            output_type="latent",
        ).frames.float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        vae, videos = self.pipeline.vae, []
        for latent in latents:
            frames = latent.transpose(0, 1).to(vae.device, vae.dtype) / vae.config.scaling_factor
            pixels = vae.decode(frames).sample.float().clamp(-1, 1)
            videos.append(((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        return torch.stack(videos)

    def draw_timestep(self, rng: torch.Generator) -> int:
        return int(torch.randint(self.pipeline.scheduler.config.num_train_timesteps, (1,), generator=rng))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.pipeline.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        unet = self.denoiser
        return unet(noisy.to(unet.dtype), timesteps, prompt_embeds.to(unet.dtype)).sample.float()

    def free_encoders(self) -> None:
        self.pipeline.register_modules(text_encoder=None, vae=None)

    def to(self, device: str) -> None:
        self.pipeline.to(device)
