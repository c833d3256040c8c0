"""Flow matching: what Wan and LTX-Video learn.

Lipman et al., "Flow Matching for Generative Modeling" (2023); with straight paths: x_σ = (1 - σ)·x_0 + σ·ε, and the
network says dx/dσ = ε - x_0. Timesteps are σ in thousandths.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from generators.families.diffusers_base import DiffusersGenerator

TRAIN_STEPS = 1000


def shifted(sigma: float, shift: float) -> float:
    """σ moved towards noise by ``shift``, s·σ / (1 + (s - 1)·σ): larger videos need more noise to lose as much."""
    return shift * sigma / (1 + (shift - 1) * sigma)


class FlowGenerator(DiffusersGenerator):
    """A generator that is trained by flow matching."""

    num_train_timesteps: ClassVar[int] = TRAIN_STEPS

    @property
    @abstractmethod
    def shift(self) -> float:
        """The shift that this model is sampled with; it is trained with the same."""

    def draw_timestep(self, rng: torch.Generator) -> int:
        """σ uniform in (0, 1], shifted, in thousandths."""
        sigma = 1 - torch.rand((), generator=rng).item()
        return max(1, math.ceil(TRAIN_STEPS * shifted(sigma, self.shift)))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(1 - σ)·x_0 + σ·ε (B, C, T, h, w), with σ from timesteps (B,) in thousandths."""
        sigma = (timesteps / TRAIN_STEPS).to(latents.dtype).reshape(-1, *[1] * (latents.ndim - 1))
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The velocity ε - x_0 (B, C, T, h, w)."""
        return noise - latents
