"""The video part of LTX-2 (``LTX2Pipeline``): a transformer that draws pictures and sound side by side.

Lightricks, "LTX-2: Efficient Joint Audio-Visual Foundation Model" (2026). Weights: their own licence, see their page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2 import LTX2Pipeline
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from generators.families.ltx import LTX
from videoduet.records import SamplerSettings

TEXT_LENGTH = 1024
"""Tokens of a prompt that the pipeline reads where its tokenizer does not say less."""


class LTX2(LTX):
    """LTX-2 without its sound, for sampling (classifier-free guidance alone) and preference training.

    The two parts look at each other by layers of their own. Those are left out, in sampling as in training, as the
    pipeline itself does for one of its guidances; what then says how a picture moves is the video part alone. So videos
    are not those that the pipeline draws with sound and its other guidances.
    """

    pipeline_class: ClassVar = LTX2Pipeline

    @classmethod
    def default_settings(cls, pipeline: DiffusionPipeline) -> SamplerSettings:
        """40 steps at w 4; 121 frames of 512x768 pixels at 24 a second."""
        return SamplerSettings(steps=40, guidance_scale=4.0, fps=24, num_frames=121, height=512, width=768)

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read."""
        return min(TEXT_LENGTH, self.pipeline.tokenizer_max_length)

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L, D) float32: what the pipeline's connector makes of all layers of Gemma for the video
        part, zero where it shows nothing.
        """
        pipeline = self.pipeline
        embeds, mask, _, _ = pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        video, _, shown = pipeline.connectors(
            embeds.to(pipeline.connectors.dtype), mask, padding_side=pipeline.tokenizer.padding_side
        )
        return video.float() * shown[..., None].float()

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by the pipeline's scheduler with classifier-free guidance."""
        scheduler, settings = self.pipeline.scheduler, [self.settings] * len(seeds)
        latents, steps, w = self.noise_batch(seeds), self.settings.steps, self.settings.guidance_scale
        dynamic = {"mu": math.log(self.shift)} if scheduler.config.use_dynamic_shifting else {}
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), device=latents.device, **dynamic)
        given, empty = prompt_embeds.to(latents.device), self.unconditional(len(seeds)).to(latents.device)
        for moment in scheduler.timesteps:
            timesteps = moment.expand(len(seeds))
            velocity = self.predict(latents, timesteps, given, settings)
            if w != 1:
                without = self.predict(latents, timesteps, empty, settings)
                velocity = without + w * (velocity - without)
            latents = scheduler.step(velocity, moment, latents, return_dict=False)[0]
        return latents.float()

    def predict_told(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, told: Mapping[str, Tensor]
    ) -> Tensor:
        """As :meth:`predict`: the video part's velocity, beside one frame of silence that it does not look at."""
        denoiser: Any = self.denoiser
        config = self.pipeline.transformer.config
        places = denoiser.rope.prepare_video_coords(len(noisy), *noisy.shape[2:], noisy.device, fps=1.0)
        # In the first place they are seconds: those of a video of one frame a second, over each sample's own rate.
        places = torch.cat([places[:, :1] / told["fps"].view(-1, 1, 1, 1), places[:, 1:]], dim=1)
        heard = config.caption_channels if config.use_prompt_embeddings else config.audio_cross_attention_dim
        embeds = prompt_embeds.to(denoiser.dtype)
        packed = denoiser(
            self._pack(noisy).to(denoiser.dtype), embeds.new_zeros(len(noisy), 1, config.audio_in_channels), embeds,
            embeds.new_zeros(len(noisy), 1, heard), timesteps, sigma=timesteps,
            encoder_attention_mask=self._mask(prompt_embeds), num_frames=noisy.shape[2], height=noisy.shape[3],
            width=noisy.shape[4], audio_num_frames=1, video_coords=places, isolate_modalities=True, return_dict=False,
        )[0]  # fmt: skip
        return self._unpack(packed.float(), noisy.shape)

    def free_encoders(self) -> None:
        """Take text encoder, connectors, autoencoders and what makes sound out of the pipeline."""
        self._idle = None
        gone = ("text_encoder", "connectors", "vae", "audio_vae", "vocoder", "prompt_enhancer", "duration_head")
        self.pipeline.register_modules(**dict.fromkeys(gone))
