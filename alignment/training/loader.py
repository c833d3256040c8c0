"""The tensors of draws. Everything comes from disk or a seed; no encoder is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from alignment.training.schedule import Draw, pair_id
from alignment.training.tensor_rows import TensorRows
from generators.base import Generator
from videoduet.records import PreferencePair, Sample, SamplerSettings
from videoduet.seeding import seed_for


@dataclass(frozen=True)
class Batch:
    """n draws as 2n latents (2n, C, T, h, w), the chosen first, then the rejected; both sides share noise and timestep.

    ``noise`` is of the latents' shape; ``timesteps`` (2n,) int64; ``prompt_embeds`` (2n, L, D) float32; ``settings``
    (2n) are each sample's own, ``told`` what the denoiser reads of them (None: the generator does not say).
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompt_embeds: Tensor
    settings: list[SamplerSettings]
    told: dict[str, Tensor] | None = None


class PairLoader:
    """Makes the tensors of draws of ``pairs``, on ``device``.

    ``samples`` (by video id) say where latents lie, ``embeds`` (by prompt id) where text conditioning does: shard and
    row. ``seed`` is the run's; ``guidance`` is :class:`alignment.training.config.AlignConfig`'s.
    """

    def __init__(
        self,
        generator: Generator,
        pairs: Sequence[PreferencePair],
        samples: Mapping[str, Sample],
        embeds: Mapping[str, tuple[Path, int]],
        rows: TensorRows,
        *,
        seed: int,
        device: torch.device,
        guidance: Literal["record", "uniform"] = "record",
    ):
        self.generator, self.pairs, self.samples, self.embeds = generator, pairs, samples, embeds
        self.rows, self.seed, self.device, self.guidance = rows, seed, device, guidance

    def load(self, draws: Sequence[Draw]) -> Batch:
        """The tensors of n draws."""
        pairs = [self.pairs[draw.pair] for draw in draws]
        sides = [self.samples[p.chosen_id] for p in pairs] + [self.samples[p.rejected_id] for p in pairs]
        latents = torch.stack(
            [self.rows.row(Path(sample.latents_path), "latents", sample.index_in_shard) for sample in sides]
        )
        places = [self.embeds[pair.prompt_id] for pair in pairs]
        embeds = torch.stack([self.rows.row(path, "embeds", row) for path, row in places])
        settings = [sample.settings for sample in sides]
        timesteps, noise = [], []
        for row, (draw, pair, latent) in enumerate(zip(draws, pairs, latents, strict=False)):
            # Noise comes from the CPU's generator, so that a draw is the same on every device.
            rng = torch.Generator().manual_seed(seed_for(self.seed, "draw", pair_id(pair), draw.epoch, draw.k))
            timesteps.append(self.generator.draw_timestep(rng))
            noise.append(torch.randn(latent.shape, generator=rng))
            # Drawn last, so that timestep and noise are the same whatever the guidance.
            if self.guidance == "uniform":
                low, high = self.generator.guidance_range
                w = low + (high - low) * torch.rand((), generator=rng).item()
                for side in (row, row + len(draws)):
                    settings[side] = replace(settings[side], guidance_scale=w)
        told = self.generator.told(settings)
        return Batch(
            latents=self._there(latents),
            noise=self._there(torch.stack(noise + noise)),
            timesteps=self._there(torch.tensor(timesteps + timesteps)),
            prompt_embeds=self._there(torch.cat([embeds, embeds])),
            settings=settings,
            told=None if told is None else {name: self._there(value) for name, value in told.items()},
        )

    def _there(self, tensor: Tensor) -> Tensor:
        return to_device(tensor, self.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor``, which is on the CPU, on ``device``, without waiting for what that is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
