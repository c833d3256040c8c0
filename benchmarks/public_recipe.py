"""The training recipe of the public Diffusion-DPO scripts, for :mod:`benchmarks.dpo_step`."""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignment.preferences.stored import StoredPair
from alignment.training.config import AlignConfig
from alignment.training.gathering import Preferences, of_files
from alignment.training.latent_cache import LatentCache, fitted_frames
from alignment.training.loss import diffusion_dpo_loss
from alignment.training.policy import make_policy
from alignment.training.schedule import Draw, pair_id, schedule
from generators.families.t2v_turbo import T2VTurbo
from generators.fast.recomputation import recompute_all
from videoduet.seeding import seed_for
from videoduet.store import content_hash


def records_of(generator: T2VTurbo, stored: list[StoredPair], root: Path) -> tuple[Preferences, LatentCache]:
    """What the trainer needs of ``stored``, and the cache in ``root`` that its latents are to be in."""
    cache = LatentCache(root / "latents", generator, "bench")
    ids = {side: content_hash(side) for pair in stored for side in (pair.chosen, pair.rejected)}
    return of_files(stored, ids, cache, generator.settings), cache


def now() -> float:
    """Seconds, once the device has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class PublicRecipe:
    """Steps that keep nothing between them but the weights.

    With ``joint`` chosen and rejected go through the models together and the reference is the LoRA switched off, as in
    diffusers' script; without it each side goes by itself and the reference is a frozen second copy.
    """

    def __init__(self, generator: T2VTurbo, stored: list[StoredPair], config: AlignConfig, root: Path, *, joint: bool):
        self.generator, self.config, self.joint = generator, config, joint
        device: Any = generator.denoiser.device
        self.device: torch.device = device
        self.records = records_of(generator, stored, root)[0]
        self.pairs = sorted(self.records.pairs, key=pair_id)
        videos = self.records.samples.items()
        self.frames = {video: fitted_frames(Path(s.video_path), generator.settings) for video, s in videos}
        self.copy = None if joint else copy.deepcopy(generator.denoiser).requires_grad_(False)
        if config.gradient_checkpointing:
            recompute_all(generator.denoiser)
        self.policy = generator.denoiser = make_policy(generator, config, 0, None, None, None)
        self.parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=0.0)
        self.seconds: dict[str, float] | None = None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the seconds of a part of the work, where they are asked for."""
        started = now() if self.seconds is not None else 0.0
        yield
        if self.seconds is not None:
            self.seconds[name] = self.seconds.get(name, 0.0) + now() - started

    def encode(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        """Prompts' conditioning, for each side, and the latents, the chosen first."""
        pairs = [self.pairs[draw.pair] for draw in draws]
        with self.part("text encoder"):
            embeds = self.generator.encode_prompts([self.records.prompts[pair.prompt_id].text for pair in pairs])
        sides = [pair.chosen_id for pair in pairs] + [pair.rejected_id for pair in pairs]
        with self.part("autoencoder"):
            latents = self.generator.encode(torch.stack([self.frames[side] for side in sides]))
        return torch.cat([embeds, embeds]).to(self.device), latents.to(self.device)

    def noise(self, draws: Sequence[Draw], shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Noise and timesteps as our trainer draws them, for each side."""
        rngs = [
            torch.Generator().manual_seed(seed_for(0, "draw", pair_id(self.pairs[draw.pair]), draw.epoch, draw.k))
            for draw in draws
        ]
        timesteps = torch.tensor([self.generator.draw_timestep(rng) for rng in rngs], device=self.device)
        noise = torch.stack([torch.randn(shape, generator=rng) for rng in rngs]).to(self.device)
        return torch.cat([noise, noise]), torch.cat([timesteps, timesteps])

    def predict(self, noisy: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """The prediction (2n, C, T, h, w) of the denoiser in force, in one pass or in one for each side."""
        size = len(noisy) if self.joint else len(noisy) // 2
        parts = zip(noisy.split(size), timesteps.split(size), embeds.split(size), strict=True)
        enabled = self.config.mixed_precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            return torch.cat([self.generator.predict(*part, [self.generator.settings] * size) for part in parts])

    def step(self, draws: Sequence[Draw]) -> float:
        """One optimizer step on ``draws``; returns its loss."""
        embeds, latents = self.encode(draws)
        noise, timesteps = self.noise(draws, latents.shape[1:])
        noisy, target = (make(latents, noise, timesteps) for make in (self.generator.add_noise, self.generator.target))
        with self.part("denoiser"):
            with torch.no_grad(), self.policy.disable_adapter() if self.joint else nullcontext():
                self.generator.denoiser = self.copy or self.policy
                reference = self.predict(noisy, timesteps, embeds)
            self.generator.denoiser = self.policy
            policy = self.predict(noisy, timesteps, embeds)
            tensors = [side for tensor in (policy, reference, target) for side in tensor.chunk(2)]
            loss = diffusion_dpo_loss(*tensors, beta=self.config.beta).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def run(self) -> dict[str, Any]:
        """All steps, timed; then the first ones again, to see what takes the time."""
        config = self.config
        steps = schedule(
            len(self.pairs), epochs=config.epochs, draws_per_pair=1, batch_size=config.batch_size, max_steps=None,
            seed=0, noise_epochs=config.noise_epochs,
        )  # fmt: skip
        started = now()
        losses = [self.step(draws) for draws in steps]
        seconds, self.seconds, started = now() - started, {}, now()
        for draws in steps[:4]:
            self.step(draws)
        whole = now() - started
        shares = {name: part / whole for name, part in self.seconds.items()}
        return {"seconds": seconds, "losses": losses, "shares": shares}
