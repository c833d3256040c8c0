"""Latent video UNets of the ModelScope and VideoCrafter kin: a CLIP text encoder, an image autoencoder, a 3D UNet."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ftfy
import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet3DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from generators.families.diffusers_base import DiffusersGenerator, from_uint8, to_uint8
from videoduet.adapters import put_state, unwrapped, weights_of
from videoduet.errors import InputError
from videoduet.loading import check_files, loading

FRAMES_AT_ONCE = 8
"""Frames that go through the autoencoder together: it knows no time, and memory grows with them."""


class VideoPipelineOutput(BaseOutput):
    """``frames``: uint8 array (B, T, H, W, 3); for ``output_type='latent'`` the latents (B, C, T, h, w), for 'pil'
    lists of images.
    """

    frames: np.ndarray | Tensor | list[list[Image.Image]]


def clean_text(text: str) -> str:
    """``text`` as OpenCLIP's tokenizer reads it: mended Unicode, no HTML entities, single spaces, small letters."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


class CLIPVideoPipeline(DiffusionPipeline):
    """What VideoCrafter2 and T2V-Turbo have in common. Loads, saves and takes LoRAs like any diffusers pipeline."""

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: SchedulerMixin,
    ):
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read. A tokenizer whose config is lost knows no end."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text`` as :meth:`encode_prompt` reads them, also those beyond :attr:`text_length`."""
        return self.tokenizer(clean_text(text), split_special_tokens=True, verbose=False).input_ids

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Last hidden states (B, L, D) of the text encoder; padded with token 0 and without a mask, as it was
        trained.
        """
        # Split, since the token that pads ("!") is also a word: as a special token it would be cut out of words.
        tokens = self.tokenizer(
            [clean_text(prompt) for prompt in prompts], padding="max_length", truncation=True, return_tensors="pt",
            max_length=self.text_length, split_special_tokens=True,
        )  # fmt: skip
        return self.text_encoder(tokens.input_ids.to(self._execution_device)).last_hidden_state

    def initial_latents(
        self,
        batch: int,
        num_frames: int,
        height: int,
        width: int,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> Tensor:
        """Noise (B, C, T, h, w), float32, for ``batch`` videos of ``height`` x ``width`` pixels."""
        size = (num_frames, height // self.vae_scale_factor, width // self.vae_scale_factor)
        shape = (batch, self.unet.config.in_channels, *size)
        return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)

    def decode_latents(self, latents: Tensor) -> np.ndarray:
        """Frames uint8 (B, T, H, W, 3) of ``latents`` (B, C, T, h, w)."""
        return decode_frames(self.vae, latents, self._execution_device).cpu().numpy()

    def finish(self, latents: Tensor, output_type: str) -> VideoPipelineOutput:
        """The call's output: 'latent', 'np' (uint8 frames) or 'pil' (a list of images for each video)."""
        frames = latents if output_type == "latent" else self.decode_latents(latents)
        self.maybe_free_model_hooks()
        if output_type == "pil":
            frames = [[Image.fromarray(frame) for frame in video] for video in frames]
        return VideoPipelineOutput(frames=frames)

    def load_lora_weights(
        self, weights: str | Path | dict[str, Tensor], *, adapter_name: str = "default", **named: Any
    ) -> None:
        """Put a LoRA of the UNet in force: a PEFT directory, as training here writes it, or a file or hub id in the
        layout of diffusers (``unet.….lora_A.weight``), for which ``named`` goes to its reader.

        diffusers' own loader does not know 3D UNets. Raises InputError, a ValueError, for a LoRA that holds nothing for
        the UNet, or any of whose tensors is missing or has no place.
        """
        source = "in these tensors" if isinstance(weights, dict) else weights
        if not isinstance(weights, dict):
            check_files(weights)
        if not isinstance(weights, dict) and (Path(weights) / "adapter_config.json").is_file():
            config = LoraConfig.from_pretrained(str(weights))
            state: dict[str, Tensor] = weights_of(weights)
        else:
            with loading(f"LoRA {source} cannot be read", "give a PEFT directory or a file in diffusers' layout."):
                given: Any = weights  # diffusers takes paths, too
                read: Any = StableDiffusionLoraLoaderMixin.lora_state_dict(given, **named)
                found, alphas = read
            found = {unwrapped(name): value for name, value in found.items()}
            alphas = {unwrapped(name).removesuffix(".alpha"): value for name, value in (alphas or {}).items()}
            if not any(name.startswith("unet.") for name in found):
                raise InputError(f"LoRA {source} holds no LoRA of a UNet: no name in it begins with 'unet.'")
            # What is not the UNet's keeps its name, and is refused by it.
            state = {name.removeprefix("unet."): value for name, value in found.items()}
            own = [name.removesuffix(".lora_A.weight") for name in found if name.endswith(".lora_A.weight")]
            own = [name for name in own if name.startswith("unet.")]
            ranks = {name.removeprefix("unet."): len(found[f"{name}.lora_A.weight"]) for name in own}
            given = {name.removeprefix("unet."): alphas[name] for name in own if name in alphas}
            config = LoraConfig(target_modules=list(ranks), rank_pattern=ranks, alpha_pattern={**ranks, **given})
        inject_adapter_in_model(config, self.unet, adapter_name)
        put_state(self.unet, state, source, "UNet", name=adapter_name)


OUTPUT_TYPES = ("np", "pil", "latent")


def check_output_type(output_type: str) -> None:
    """Raises ValueError before hours of sampling rather than after."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type is {output_type!r}; give one of {', '.join(OUTPUT_TYPES)}")


@torch.no_grad()
def decode_frames(vae: AutoencoderKL, latents: Tensor, device: torch.device) -> Tensor:
    """Frames uint8 (B, T, H, W, 3), on ``device``, of ``latents`` (B, C, T, h, w), ``FRAMES_AT_ONCE`` of one video at a
    time.
    """
    videos = []
    for latent in latents:
        scaled = latent.transpose(0, 1).to(device, vae.dtype) / vae.config.scaling_factor
        videos.append(torch.cat([to_uint8(vae.decode(part).sample) for part in scaled.split(FRAMES_AT_ONCE)]))
    return torch.stack(videos)


class UNetGenerator(DiffusersGenerator):
    """A generator whose denoiser is a 3D UNet over the latents of an image autoencoder."""

    denoiser_name: ClassVar[str] = "unet"
    lora_targets: ClassVar[str] = (
        r".*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|resnets\.\d+\.conv[12]|time_emb_proj"
        r"|conv_shortcut|conv1\.2|conv[2-4]\.3|conv_in|conv_out|linear_1|linear_2)"
    )

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read: CLIP's have an end."""
        pipeline = self.pipeline
        return min(pipeline.tokenizer.model_max_length, pipeline.text_encoder.config.max_position_embeddings)

    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T, h, w): the autoencoder compresses space alone."""
        return (self.pipeline.unet.config.in_channels, *self.compressed(self.pipeline.vae_scale_factor))

    @staticmethod
    def native_size(pipeline: DiffusionPipeline) -> tuple[int, int]:
        """Height and width in pixels that the UNet says it was made for."""
        size = pipeline.unet.config.sample_size or 32
        height, width = (size, size) if isinstance(size, int) else size
        return height * pipeline.vae_scale_factor, width * pipeline.vae_scale_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W, 3) of latents (B, C, T, h, w), decoded a few at a time."""
        return decode_frames(self.pipeline.vae, latents, self.pipeline.vae.device)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) float32 of frames uint8 (B, T, H, W, 3), encoded a few at a time."""
        vae, latents = self.pipeline.vae, []
        for video in frames:
            parts = from_uint8(video, vae.device, vae.dtype).split(FRAMES_AT_ONCE)
            encoded = torch.cat([vae.encode(part).latent_dist.mode() for part in parts])
            latents.append(encoded.transpose(0, 1).float().cpu() * vae.config.scaling_factor)
        return torch.stack(latents)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """ε or v (B, C, T, h, w), as the scheduler says."""
        if self.pipeline.scheduler.config.prediction_type == "v_prediction":
            return self.pipeline.scheduler.get_velocity(latents, noise, timesteps)
        return noise
