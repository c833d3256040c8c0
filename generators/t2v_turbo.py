"""T2V-Turbo: a consistency-distilled text-to-video UNet in stock diffusers classes.

Li et al., "T2V-Turbo" (2024). The UNet is ``UNet3DConditionModel`` with ``time_cond_proj_dim``; it takes an embedding
of the guidance scale w itself (not w - 1, as diffusers' LCM pipelines do) and is sampled in a few steps of multistep
consistency sampling, which ``LCMScheduler`` computes bit-equally when it is given the timesteps.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, LCMScheduler, UNet3DConditionModel
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import LongTensor, Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from generators.base import Generator, override
from videoduet.errors import InputError
from videoduet.records import SamplerSettings


def turbo_timesteps(original_steps: int, num_steps: int) -> LongTensor:
    """The ``num_steps`` timesteps that T2V-Turbo's sampler visits, falling, from its grid of ``original_steps``.

    With c = 1000 // O the grid is c·(1..O) - 1, taken backwards in strides of O // n. diffusers chooses differently
    where n does not divide O. Raises ValueError unless 1 <= num_steps <= original_steps <= 1000.
    """
    if not 1 <= num_steps <= original_steps <= 1000:
        raise ValueError(f"need 1 <= num_steps <= original_steps <= 1000, not {num_steps} and {original_steps}")
    grid = consistency_grid(original_steps)
    return grid.flip(0)[:: original_steps // num_steps][:num_steps]


def consistency_grid(original_steps: int) -> LongTensor:
    """The timesteps a T2V-Turbo student was distilled on, rising: c·(1..O) - 1 with c = 1000 // O."""
    return (1000 // original_steps) * torch.arange(1, original_steps + 1) - 1


def guidance_embedding(w: Tensor | float, dim: int = 256) -> Tensor:
    """Sinusoidal embedding (B, dim) of guidance scales w (B,): ``[sin(1000 w f), cos(1000 w f)]``, float32."""
    w = torch.as_tensor(w, dtype=torch.float32).reshape(-1) * 1000.0
    half = dim // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.float32, device=w.device) * -(math.log(10000.0) / (half - 1))
    )
    angles = w[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class T2VTurboPipelineOutput(BaseOutput):
    """``frames``: uint8 array (B, T, H, W, 3), or the latents (B, C, T, h, w) for ``output_type='latent'``."""

    frames: np.ndarray | Tensor


class T2VTurboPipeline(DiffusionPipeline):
    """Text-to-video in a few steps of consistency sampling, with the guidance scale as an embedding (no CFG).

    Loads and saves like any diffusers pipeline. The fps embedding of VideoCrafter2 is folded into
    ``unet.time_embedding.linear_2.bias``.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: LCMScheduler,
    ):
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Last hidden states (B, L, D) of the text encoder; padded with token 0 and without a mask, as it was
        trained.
        """
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device)).last_hidden_state

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> np.ndarray:
        """Latents (B, C, T, h, w) to frames uint8 (B, T, H, W, 3), one video at a time."""
        videos = []
        for latent in latents:
            frames = latent.transpose(0, 1).to(self.vae.dtype) / self.vae.config.scaling_factor
            pixels = self.vae.decode(frames).sample.float().clamp(-1, 1)
            videos.append(((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        return np.stack(videos)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        height: int = 320,
        width: int = 512,
        num_frames: int = 16,
        num_inference_steps: int = 4,
        original_steps: int = 50,
        guidance_scale: float = 7.5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[["T2VTurboPipeline", int, int, dict], dict] | None = None,
    ) -> T2VTurboPipelineOutput:
        """Draw one video per prompt.

        ``generator`` may be a list with one generator per video: then a video does not depend on its batch.
        ``guidance_scale`` is embedded as it is. ``output_type`` is 'np' (uint8 frames) or 'latent'.
        """
        if prompt_embeds is None:
            prompt_embeds = self.encode_prompt([prompt] if isinstance(prompt, str) else prompt)
        batch, device = len(prompt_embeds), self._execution_device
        if latents is None:
            factor = self.vae_scale_factor
            shape = (batch, self.unet.config.in_channels, num_frames, height // factor, width // factor)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        self.scheduler.set_timesteps(timesteps=turbo_timesteps(original_steps, num_inference_steps).tolist())
        embedding = guidance_embedding(torch.full((batch,), guidance_scale), self.unet.config.time_cond_proj_dim)
        embedding = embedding.to(device, self.unet.dtype)
        denoised = latents
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            noise_prediction = self.unet(
                latents.to(self.unet.dtype),
                timestep,
                prompt_embeds.to(device, self.unet.dtype),
                timestep_cond=embedding,
            ).sample
            latents, denoised = self.scheduler.step(
                noise_prediction.float(), timestep, latents, generator=generator, return_dict=False
            )
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, int(timestep), {"latents": latents}).get("latents", latents)
        self.maybe_free_model_hooks()
        return T2VTurboPipelineOutput(frames=denoised if output_type == "latent" else self.decode_latents(denoised))


class T2VTurbo(Generator):
    """T2V-Turbo for sampling and preference training: on the student's own grid, w from each sample's record.

    What is predicted is the scheduler's word: ε, as in the released students, or v.
    """

    lora_targets: ClassVar[str] = (
        r".*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|resnets\.\d+\.conv[12]|time_emb_proj"
        r"|conv_shortcut|conv1\.2|conv[2-4]\.3|conv_in|conv_out|linear_1|linear_2)"
    )

    def __init__(self, pipeline: T2VTurboPipeline, settings: SamplerSettings, original_steps: int = 50):
        self.pipeline = pipeline
        self.settings = settings
        self.original_steps = original_steps
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.unet.eval()

    @classmethod
    def from_pretrained(cls, path: str | Path, *, sampler: dict, dtype: torch.dtype = torch.float32) -> "T2VTurbo":
        try:
            pipeline = T2VTurboPipeline.from_pretrained(path, torch_dtype=dtype)
        except OSError as error:
            raise InputError(f"Generator {path} cannot be loaded ({error}); give a diffusers directory.") from error
        unet = pipeline.unet.config
        size = unet.sample_size or 32
        height, width = (size, size) if isinstance(size, int) else size
        factor = pipeline.vae_scale_factor
        defaults = SamplerSettings(
            steps=4, guidance_scale=7.5, fps=8, num_frames=16, height=height * factor, width=width * factor
        )
        generator = cls(pipeline, override(defaults, sampler))
        if not 1 <= generator.settings.steps <= generator.original_steps:
            message = f"sampler.steps is {generator.settings.steps}; give 1 to {generator.original_steps}."
            raise InputError(message, exit_code=2)
        return generator

    @property
    def denoiser(self) -> nn.Module:
        return self.pipeline.unet

    @denoiser.setter
    def denoiser(self, module: nn.Module) -> None:
        self.pipeline.unet = module

    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        return self.pipeline.encode_prompt(texts).float()

    def initial_noise(self, seed: int) -> Tensor:
        return torch.randn(self._latent_shape, generator=torch.Generator().manual_seed(seed))

    @property
    def _latent_shape(self) -> tuple[int, ...]:
        factor = self.pipeline.vae_scale_factor
        size = (self.settings.num_frames, self.settings.height // factor, self.settings.width // factor)
        return (self.pipeline.unet.config.in_channels, *size)

    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        # The step noise has its own seed, so that the initial noise is `initial_noise(seed)` whatever the sampler
        # draws.
        device = self.denoiser.device
        latents = torch.stack([self.initial_noise(seed) for seed in seeds]).to(device)
        rngs = [torch.Generator().manual_seed((seed ^ 0x5DEECE66D) & (2**63 - 1)) for seed in seeds]
        return self.pipeline(
            prompt_embeds=prompt_embeds,
            latents=latents,
            num_inference_steps=self.settings.steps,
            original_steps=self.original_steps,
            guidance_scale=self.settings.guidance_scale,
            generator=rngs,
            output_type="latent",
        ).frames.float()

    def decode(self, latents: Tensor) -> Tensor:
        return torch.from_numpy(self.pipeline.decode_latents(latents.to(self.denoiser.device)))

    def draw_timestep(self, rng: torch.Generator) -> int:
        grid = consistency_grid(self.original_steps)
        return int(grid[torch.randint(len(grid), (1,), generator=rng)])

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.pipeline.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.pipeline.scheduler.config.prediction_type == "v_prediction":
            return self.pipeline.scheduler.get_velocity(latents, noise, timesteps)
        return noise

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        unet = self.denoiser
        w = torch.tensor([setting.guidance_scale for setting in settings])
        embedding = guidance_embedding(w, unet.config.time_cond_proj_dim).to(noisy.device, unet.dtype)
        return unet(
            noisy.to(unet.dtype), timesteps, prompt_embeds.to(unet.dtype), timestep_cond=embedding
        ).sample.float()

    def free_encoders(self) -> None:
        self.pipeline.register_modules(text_encoder=None, vae=None)

    def to(self, device: str) -> None:
        self.pipeline.to(device)
