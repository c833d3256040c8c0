"""What the loop asks of a text-to-video generator.

A generator owns its forward: how prompts become conditioning, how noise is added, what the denoiser predicts, at which
timesteps it is trained. The preference loss (``alignment.training.loss``) owns nothing about models, so one loss
serves all.

Tensors are batch first. Latents are (B, C, T, h, w), frames are uint8 (B, T, H, W, 3).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from generators.config import Speed, check_sampler
from videoduet.quantized import LoadIn
from videoduet.records import SamplerSettings
from videoduet.rewriting import Rewrites


class Generator(ABC):
    """A text-to-video model with the operations that sampling and preference training need."""

    settings: SamplerSettings
    """Sampling settings in force; each sample's record keeps them."""

    lora_targets: ClassVar[str]
    """Regular expression (full match) of the denoiser's module names that a LoRA adapts."""

    num_train_timesteps: ClassVar[int] = 1000
    """How many timesteps there are in training, counted from 0: diffusers' schedulers have 0 to 999."""

    guidance_range: ClassVar[tuple[float, float]] = (5.0, 15.0)
    """The guidance scales w that a denoiser which takes one was trained on: T2V-Turbo's students were distilled on
    these.
    """

    @classmethod
    @abstractmethod
    def from_pretrained(
        cls, path: str | Path, *, sampler: dict, dtype: torch.dtype = torch.float32, load_in: LoadIn | None = None
    ) -> "Generator":
        """The generator in the diffusers directory (or hub id) ``path``; ``sampler`` overrides fields of
        :class:`SamplerSettings`, ``dtype`` is the precision of its weights, but that of the denoiser's linear layers
        where ``load_in`` says it.
        """

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The module that is trained (a UNet or a transformer). Assigning replaces it, e.g. by its PEFT wrapping."""

    @denoiser.setter
    @abstractmethod
    def denoiser(self, module: nn.Module) -> None:
        """Put ``module`` in its place."""

    @abstractmethod
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Text conditioning (B, L, D) of ``texts``, float32. Row i depends on text i alone."""

    @abstractmethod
    def initial_noise(self, seed: int) -> Tensor:
        """The noise (C, T, h, w) that sample ``seed`` starts from: a function of ``seed`` alone."""

    @abstractmethod
    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        """Final latents (B, C, T, h, w) float32 of one new video for each row of ``prompt_embeds`` (B, L, D). All
        randomness of row i comes from seed i.
        """

    def at_speed(self, speed: Speed) -> Rewrites:
        """The change after which this generator draws as ``speed`` says, until it is undone (by ``undo()`` or as a
        context manager); values are the same up to rounding. One without faster forms draws as it does.
        """
        return Rewrites()

    @property
    def text_length(self) -> int | None:
        """Tokens of a prompt that the text encoder reads (None: all of them)."""
        return None

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text``, all of them, also those that the text encoder does not read."""
        raise NotImplementedError

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W, 3), where the autoencoder is, of ``latents`` (B, C, T, h, w)."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) float32 of ``frames`` uint8 (B, T, H, W, 3), of the scale that :meth:`sample` draws:
        the mode of the autoencoder's posterior.
        """

    @abstractmethod
    def draw_timestep(self, rng: torch.Generator) -> int:
        """One training timestep, by this model's law (for a consistency model: uniform over its own grid)."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t (B, C, T, h, w) from x_0, noise and integer timesteps (B,)."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict at x_t (B, C, T, h, w): ε, v, x_0 or the flow's velocity."""

    @abstractmethod
    def predict(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, settings: Sequence[SamplerSettings]
    ) -> Tensor:
        """The denoiser's prediction (B, C, T, h, w), differentiable, in float32, for ``noisy`` (B, C, T, h, w) at
        ``timesteps`` (B,) under ``prompt_embeds`` (B, L, D); ``settings[i]`` is how sample i was drawn (its w and fps).
        """

    def told(self, settings: Sequence[SamplerSettings]) -> dict[str, Tensor] | None:
        """All that :meth:`predict` reads of how samples were drawn, as tensors (B, ...) on the CPU: with them
        :meth:`predict_told` is the same function of tensors alone, which can be recorded. None: this generator does not
        say.
        """
        return None

    def predict_told(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, told: Mapping[str, Tensor]
    ) -> Tensor:
        """As :meth:`predict`, with what :meth:`told` gave, on the denoiser's device, in place of the settings."""
        raise NotImplementedError

    def rest(self) -> None:
        """Give back what the text encoder takes of a GPU, until prompts are encoded again; where it takes little, or
        there is none, nothing is done.
        """
        return

    @abstractmethod
    def free_encoders(self) -> None:
        """Forget the text encoder and the autoencoder, which preference training from latents never needs."""

    @abstractmethod
    def to(self, device: str) -> None:
        """Move all models to ``device``."""


def override(defaults: SamplerSettings, sampler: Mapping[str, Any]) -> SamplerSettings:
    """``defaults`` with the fields in ``sampler`` in their place.

    Raises InputError for a name that is no field, and for a value that nothing can be drawn with.
    """
    check_sampler(sampler)
    return replace(defaults, **sampler)
