"""HunyuanVideo-1.5 (``HunyuanVideo15Pipeline``): a flow-matching transformer that reads its prompts by a Qwen2.5-VL.

Tencent, "HunyuanVideo 1.5 Technical Report" (2025). Weights: Tencent's community licence, see their page.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import HunyuanVideo15Pipeline
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from generators.families.diffusers_base import from_uint8, to_uint8
from generators.families.flow import FlowGenerator
from videoduet.records import SamplerSettings


class HunyuanVideo15(FlowGenerator):
    """HunyuanVideo-1.5 for sampling (classifier-free guidance, the pipeline's own scheduler) and preference training.

    Conditioning is the words' and below them that of what is to be written in the video, between quotation marks in
    the prompt, by a second encoder; zero where either was padded, and by that the masks are known again.
    """

    pipeline_class: ClassVar = HunyuanVideo15Pipeline
    lora_targets: ClassVar[str] = r".*transformer_blocks\.\d+\.(attn\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"

    @classmethod
    def default_settings(cls, pipeline: DiffusionPipeline) -> SamplerSettings:
        """50 steps at w 6; 121 frames of 480x848 pixels at 24 a second."""
        return SamplerSettings(steps=50, guidance_scale=6.0, fps=24, num_frames=121, height=480, width=848)

    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T, h, w) under the autoencoder's factors."""
        pipeline = self.pipeline
        factors = pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal
        return (pipeline.num_channels_latents, *self.compressed(*factors))

    @property
    def shift(self) -> float:
        """The scheduler's."""
        return self.pipeline.scheduler.config.shift

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read."""
        return self.pipeline.tokenizer_max_length

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Conditioning (B, L + L', D) float32: of the Qwen2.5-VL, then of ByT5, filled up with zeros to its width."""
        words, mask, written, written_mask = self.pipeline.encode_prompt(list(texts), batch_size=len(texts))
        parts = [
            (words, mask),
            (torch.nn.functional.pad(written, (0, words.shape[2] - written.shape[2])), written_mask),
        ]
        return torch.cat([part.float() * shown[..., None].float() for part, shown in parts], dim=1)

    def _read(self, prompt_embeds: Tensor) -> dict[str, Tensor]:
        """What the transformer takes of conditioning: both parts and their masks, on its device and in its dtype."""
        transformer = self.pipeline.transformer
        embeds = prompt_embeds.to(transformer.device, transformer.dtype)
        second, width = self.pipeline.tokenizer_2_max_length, transformer.config.text_embed_2_dim
        words, written = embeds[:, :-second], embeds[:, -second:, :width]
        return {
            "encoder_hidden_states": words, "encoder_attention_mask": (words != 0).any(-1).to(words.dtype),
            "encoder_hidden_states_2": written, "encoder_attention_mask_2": (written != 0).any(-1).to(words.dtype),
        }  # fmt: skip

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32, by the pipeline's scheduler with classifier-free guidance."""
        given: dict[str, Any] = {}
        for prefix, embeds in (("", prompt_embeds), ("negative_", self.unconditional(len(seeds)))):
            words, mask, written, written_mask = self._read(embeds).values()
            given |= {
                f"{prefix}prompt_embeds": words, f"{prefix}prompt_embeds_mask": mask,
                f"{prefix}prompt_embeds_2": written, f"{prefix}prompt_embeds_mask_2": written_mask,
            }  # fmt: skip
        pipeline: Any = self.pipeline
        sizes = self.sizes()
        pipeline.guider.guidance_scale = sizes.pop("guidance_scale")
        return pipeline(latents=self.noise_batch(seeds), output_type="latent", **given, **sizes).frames.float()

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) float32 of frames uint8 (B, T, H, W, 3), scaled as the transformer sees them."""
        vae = self.pipeline.vae
        videos = (from_uint8(video, vae.device, vae.dtype).transpose(0, 1)[None] for video in frames)
        encoded = torch.stack([vae.encode(video).latent_dist.mode()[0].float().cpu() for video in videos])
        return encoded * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W, 3) of latents (B, C, T, h, w)."""
        vae = self.pipeline.vae
        scaled = (latent[None].to(vae.device, vae.dtype) / vae.config.scaling_factor for latent in latents)
        return torch.stack([to_uint8(vae.decode(each).sample[0].transpose(0, 1)) for each in scaled])

    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The predicted velocity (B, C, T, h, w), float32; no picture is given to begin with."""
        denoiser: Any = self.denoiser
        pipeline: Any = self.pipeline
        blank = torch.zeros_like(noisy)
        inputs = torch.cat([noisy, blank, blank[:, :1]], dim=1).to(denoiser.dtype)
        picture = inputs.new_zeros(len(noisy), pipeline.vision_num_semantic_tokens, pipeline.vision_states_dim)
        return denoiser(
            hidden_states=inputs, image_embeds=picture, timestep=timesteps.to(inputs.dtype), return_dict=False,
            **self._read(prompt_embeds),
        )[0].float()  # fmt: skip

    def free_encoders(self) -> None:
        """Take both text encoders and the autoencoder out of the pipeline."""
        self._idle = None
        self.pipeline.register_modules(text_encoder=None, text_encoder_2=None, vae=None)
