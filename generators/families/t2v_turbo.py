"""T2V-Turbo: a consistency-distilled text-to-video UNet in stock diffusers classes.

Li et al., "T2V-Turbo" (2024). The UNet is ``UNet3DConditionModel`` with ``time_cond_proj_dim``; it takes an embedding
of the guidance scale w itself (not w - 1, as diffusers' LCM pipelines do) and is sampled in a few steps of multistep
consistency sampling, which ``LCMScheduler`` computes bit-equally when it is given the timesteps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet3DConditionModel
from torch import LongTensor, Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from generators.families.unet_base import CLIPVideoPipeline, UNetGenerator, VideoPipelineOutput, check_output_type
from generators.fps_unet import DEFAULT_FPS, takes_fps
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


class T2VTurboPipeline(CLIPVideoPipeline):
    """Text-to-video in a few steps of consistency sampling, with the guidance scale as an embedding (no CFG).

    Loads and saves like any diffusers pipeline. The fps embedding of VideoCrafter2 is folded into
    ``unet.time_embedding.linear_2.bias``; a :class:`generators.fps_unet.FpsUNet3DConditionModel` keeps it, and takes
    ``fps``.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: LCMScheduler,
        fps: float | None = None,
    ):
        """``fps`` is the frame rate that is folded into the UNet, or that it is told where it takes one and nobody says
        otherwise (None: it knows no frame rates).
        """
        super().__init__(vae, text_encoder, tokenizer, unet, scheduler)
        self.register_to_config(fps=fps)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        height: int = 320,
        width: int = 512,
        num_frames: int = 16,
        num_inference_steps: int = 4,
        original_steps: int | None = None,
        guidance_scale: float = 7.5,
        fps: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[["T2VTurboPipeline", int, int, dict], dict] | None = None,
    ) -> VideoPipelineOutput:
        """Draw one video per prompt.

        ``generator`` may be a list with one generator per video: then a video does not depend on its batch.
        ``guidance_scale`` is embedded as it is. ``original_steps`` is the grid that the student was distilled on (None:
        the scheduler's). ``fps`` is what a UNet that kept its embedding is told (None: the student's); one in which it
        is folded takes no other. ``output_type`` is 'np' (uint8 frames), 'pil' or 'latent'. The callback gets and may
        replace ``latents``. Raises ValueError for an ``fps`` that the UNet cannot take.
        """
        check_output_type(output_type)
        original_steps = original_steps or self.scheduler.config.original_inference_steps
        if prompt_embeds is None:
            prompt_embeds = self.encode_prompt([prompt] if isinstance(prompt, str) else prompt)
        batch, device, dtype = len(prompt_embeds), self._execution_device, self.unet.dtype
        if latents is None:
            latents = self.initial_latents(batch, num_frames, height, width, generator)
        self.scheduler.set_timesteps(timesteps=turbo_timesteps(original_steps, num_inference_steps).tolist())
        embedding = guidance_embedding(torch.full((batch,), guidance_scale), self.unet.config.time_cond_proj_dim)
        embedding = embedding.to(device, dtype)
        told = self.told_fps(fps)
        denoised = latents
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            noise_prediction = self.unet(
                latents.to(dtype),
                timestep,
                prompt_embeds.to(device, dtype),
                timestep_cond=embedding,
                **told,
            ).sample
            latents, denoised = self.scheduler.step(
                noise_prediction.float(), timestep, latents, generator=generator, return_dict=False
            )
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, int(timestep), {"latents": latents}).get("latents", latents)
        return self.finish(denoised, output_type)

    def told_fps(self, fps: float | Tensor | None) -> dict[str, float | Tensor]:
        """What the UNet is told of the frame rate. Raises ValueError where it takes none but the folded one."""
        if takes_fps(self.unet):
            return {"fps": fps or self.config.fps or DEFAULT_FPS}
        if fps is not None and fps != self.config.fps:
            raise ValueError(
                f"fps is {fps}, but {self.config.fps} is folded into this UNet; keep its embedding instead"
            )
        return {}


class T2VTurbo(UNetGenerator):
    """T2V-Turbo for sampling and preference training: on the student's own grid, w from each sample's record.

    What is predicted is the scheduler's word: ε, as in the released students, or v.
    """

    pipeline_class: ClassVar = T2VTurboPipeline

    def __init__(self, pipeline: T2VTurboPipeline, settings: SamplerSettings):
        super().__init__(pipeline, settings)
        self.original_steps = pipeline.scheduler.config.original_inference_steps
        if not takes_fps(self.denoiser) and pipeline.config.fps not in (None, settings.fps):
            raise InputError(
                f"sampler.fps is {settings.fps}, but {pipeline.config.fps} is folded into this UNet; give that, or "
                "convert it with --keep_fps true.",
                exit_code=2,
            )
        if settings.steps > self.original_steps:
            raise InputError(f"sampler.steps is {settings.steps}; give 1 to {self.original_steps}.", exit_code=2)

    @classmethod
    def default_settings(cls, pipeline: T2VTurboPipeline) -> SamplerSettings:
        """4 steps at w 7.5; 16 frames of the UNet's own size, at the frame rate that it knows (8 where none)."""
        height, width = cls.native_size(pipeline)
        fps = pipeline.config.fps or 8
        return SamplerSettings(steps=4, guidance_scale=7.5, fps=fps, num_frames=16, height=height, width=width)

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text`` as the pipeline reads them."""
        return self.pipeline.tokens(text)

    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32 of OpenCLIP's text encoder."""
        return self.pipeline.encode_prompt(texts).float()

    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by multistep consistency sampling: the last denoised ones."""
        return self.pipeline(
            prompt_embeds=prompt_embeds,
            latents=self.noise_batch(seeds),
            num_inference_steps=self.settings.steps,
            guidance_scale=self.settings.guidance_scale,
            fps=self.settings.fps if takes_fps(self.denoiser) else None,
            generator=self.step_generators(seeds),
            output_type="latent",
        ).frames.float()

    def draw_timestep(self, rng: torch.Generator) -> int:
        """One of the student's own grid, each as likely."""
        grid = consistency_grid(self.original_steps)
        return int(grid[torch.randint(len(grid), (1,), generator=rng)])

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The prediction (B, C, T, h, w) float32, of ε or v; sample i is told the w and fps of ``settings[i]``."""
        told = {name: value.to(noisy.device) for name, value in self.told(settings).items()}
        return self.predict_told(noisy, timesteps, prompt_embeds, told)

    def told(self, settings: Sequence[SamplerSettings]) -> dict[str, Tensor]:
        """The embedding of each sample's w, and its fps where the UNet takes one."""
        unet: Any = self.denoiser
        w = torch.tensor([setting.guidance_scale for setting in settings])
        fps = {"fps": torch.tensor([setting.fps for setting in settings])} if takes_fps(unet) else {}
        return {"timestep_cond": guidance_embedding(w, unet.config.time_cond_proj_dim), **fps}

    def predict_told(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, told: Mapping[str, Tensor]
    ) -> Tensor:
        """As :meth:`predict`."""
        # Asking a model for its dtype walks through all of it; under a LoRA the first weight is the base's.
        unet, dtype = self.denoiser, next(self.denoiser.parameters()).dtype
        told = {**told, "timestep_cond": told["timestep_cond"].to(dtype)}
        return unet(noisy.to(dtype), timesteps, prompt_embeds.to(dtype), **told).sample.float()
