"""VideoCrafter2: an ε-predicting UNet that is told the frame rate, and whose signal is scaled down towards noise.

Chen et al., "VideoCrafter2: Overcoming Data Limitations for High-Quality Video Diffusion Models" (2024). Weights:
Apache-2.0 by their page, research use by the project's README.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from torch import LongTensor, Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from generators.families.unet_base import CLIPVideoPipeline, UNetGenerator, VideoPipelineOutput, check_output_type
from videoduet.errors import InputError
from videoduet.records import SamplerSettings

MAX_STEPS = 500
"""With more the grid would be all timesteps and one beyond."""
FALL = 400
"""Timesteps over which the scale of the signal falls from 1 to ``scale_b``."""


def signal_scale(timesteps: Tensor, scale_b: float) -> Tensor:
    """What x_0 is multiplied with at integer ``timesteps``, float32: from 1 at 0 to ``scale_b`` at 399, then that.

    As in VideoCrafter's code, whose schedule of 1400 entries is read at the first 1000.
    """
    return 1 - (1 - scale_b) * timesteps.clamp(max=FALL - 1).float() / (FALL - 1)


def ddim_timesteps(steps: int) -> LongTensor:
    """The timesteps that VideoCrafter's DDIM visits, falling to 1: every (1000 // steps)-th, so there are more than
    ``steps`` of them where that does not divide 1000.
    """
    return torch.arange(0, 1000, 1000 // steps).flip(0) + 1


class VideoCrafter2Pipeline(CLIPVideoPipeline):
    """VideoCrafter2 by its own sampler: DDIM with η = 1 and a scaled signal, and classifier-free guidance.

    ``scale_b`` is kept in ``model_index.json``; all components are stock. The frame rate is folded into the UNet.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: DDIMScheduler,
        scale_b: float = 0.7,
    ):
        super().__init__(vae, text_encoder, tokenizer, unet, scheduler)
        self.register_to_config(scale_b=scale_b)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str = "",
        height: int = 320,
        width: int = 512,
        num_frames: int = 16,
        num_inference_steps: int = 50,
        guidance_scale: float = 12.0,
        eta: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[["VideoCrafter2Pipeline", int, int, dict], dict] | None = None,
    ) -> VideoPipelineOutput:
        """Draw one video per prompt; ``generator`` may be a list, one for each video.

        ``output_type`` is 'np' (uint8 frames), 'pil' or 'latent'. The callback gets and may replace ``latents``. Raises
        ValueError for more than 500 steps.
        """
        check_output_type(output_type)
        if not 1 <= num_inference_steps <= MAX_STEPS:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; give 1 to {MAX_STEPS}")
        if prompt_embeds is None:
            prompt_embeds = self.encode_prompt([prompt] if isinstance(prompt, str) else prompt)
        batch, device, dtype = len(prompt_embeds), self._execution_device, self.unet.dtype
        if latents is None:
            latents = self.initial_latents(batch, num_frames, height, width, generator)
        conditioning = prompt_embeds
        if guided := guidance_scale != 1:
            if negative_prompt_embeds is None:
                negative_prompt_embeds = self.encode_prompt([negative_prompt]).expand(batch, -1, -1)
            conditioning = torch.cat([negative_prompt_embeds.to(prompt_embeds), prompt_embeds])
        conditioning = conditioning.to(device, dtype)
        self.scheduler.set_timesteps(num_inference_steps)
        self.scheduler.timesteps = ddim_timesteps(num_inference_steps).to(device)
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            noisy = torch.cat([latents] * (2 if guided else 1)).to(dtype)
            prediction = self.unet(noisy, timestep, conditioning).sample.float()
            if guided:
                free, bound = prediction.chunk(2)
                prediction = free + guidance_scale * (bound - free)
            latents = self._step(prediction, timestep, latents, eta, generator)
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, int(timestep), {"latents": latents}).get("latents", latents)
        return self.finish(latents, output_type)

    def _step(self, prediction: Tensor, timestep: Tensor, latents: Tensor, eta: float, generator) -> Tensor:
        """A DDIM step with x_0 scaled: DDIM's own, and the change that the scales make to its x_0 term."""
        scheduler = self.scheduler
        step = scheduler.step(prediction, timestep, latents, eta=eta, generator=generator)
        before = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        alpha = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        now, then = signal_scale(torch.stack([timestep, before.clamp(min=0)]), self.config.scale_b)
        return step.prev_sample + alpha.sqrt() * (then / now - 1) * step.pred_original_sample


class VideoCrafter2(UNetGenerator):
    """VideoCrafter2 for sampling and for preference training on all its timesteps, the signal scaled in both."""

    pipeline_class: ClassVar = VideoCrafter2Pipeline

    def __init__(self, pipeline: VideoCrafter2Pipeline, settings: SamplerSettings):
        super().__init__(pipeline, settings)
        if settings.steps > MAX_STEPS:
            raise InputError(f"sampler.steps is {settings.steps}; give 1 to {MAX_STEPS}.", exit_code=2)

    @classmethod
    def default_settings(cls, pipeline: VideoCrafter2Pipeline) -> SamplerSettings:
        """50 steps at w 12; 16 frames at 10 a second, of the UNet's own size."""
        height, width = cls.native_size(pipeline)
        return SamplerSettings(steps=50, guidance_scale=12.0, fps=10, num_frames=16, height=height, width=width)

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text`` as the pipeline reads them."""
        return self.pipeline.tokens(text)

    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32 of OpenCLIP's text encoder."""
        return self.pipeline.encode_prompt(texts).float()

    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by DDIM with the scaled signal and classifier-free guidance."""
        return self.pipeline(
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=self.unconditional(len(seeds)),
            latents=self.noise_batch(seeds),
            generator=self.step_generators(seeds),
            output_type="latent",
            **self.sizes(),
        ).frames.float()

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t (B, C, T, h, w) at timesteps (B,), its signal scaled down as in training."""
        scale = signal_scale(timesteps, self.pipeline.config.scale_b).view(-1, *[1] * (latents.ndim - 1))
        return self.pipeline.scheduler.add_noise(latents * scale, noise, timesteps)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The predicted ε (B, C, T, h, w), float32."""
        unet, dtype = self.denoiser, self.denoiser.dtype
        return unet(noisy.to(dtype), timesteps, prompt_embeds.to(dtype)).sample.float()
