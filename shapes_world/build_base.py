"""From the distilled student to the base that ships: one that more training alone does not better, and preferences do.

A student of few steps gains from training on its own samples, whoever chose them, and each time all videos of a prompt
become more alike: with a squared error, what is drawn is narrower than what was learnt, and falls to the commonest kind
more often than the kind is common. So first it does that to its end (:func:`settle`). Then it learns its own clips
anew with ties (:func:`confuse`): in exactly half of the cases another colour than the caption says, the opposite
direction, a blocky picture. Neither kind is commoner, so that training on own samples leans to none, and preferences
have something to choose in every dimension.
"""

import random
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from generators.base import Generator
from generators.families.t2v_turbo import consistency_grid, turbo_timesteps
from shapes_world.degradations import degrade
from shapes_world.world import Scene, all_scenes
from videoduet.progress import track
from videoduet.store import write_tensors

SAMPLER = {"steps": 4, "guidance_scale": 1.0, "fps": 8, "num_frames": 8}
"""How the base is sampled, by the default recipe too."""
TIES = {
    "colour": {"red": "yellow", "yellow": "red", "green": "blue", "blue": "green"},
    "direction": {"left": "right", "right": "left", "up": "down", "down": "up"},
}
"""Values that captions take for each other in half of the cases."""
BLOCKINESS = 1.0
"""What spoils the picture of a clip in half of the cases."""
DRAWN_AT_ONCE = 32


@dataclass(frozen=True)
class BaseBuild:
    """How long the student settles, round by round on ``clips`` of its own samples, and then learns ties; a test does
    all with a few steps on the first ``scenes``.
    """

    rounds: int = 4
    clips: int = 192
    settle_steps: int = 60
    cycles: int = 2
    confuse_steps: int = 700
    batch_size: int = 8
    scenes: int = 360


@torch.no_grad()
def draw(generator: Generator, prompts: list[str], seeds: list[int]) -> tuple[Tensor, Tensor]:
    """Latents (n, C, T, h, w) of one video for each prompt and seed, and the prompts' embeddings (n, L, D)."""
    each = list(dict.fromkeys(prompts))
    known = dict(zip(each, generator.encode_prompts(each), strict=True))
    embeds = torch.stack([known[prompt] for prompt in prompts])
    starts = range(0, len(prompts), DRAWN_AT_ONCE)
    parts = [slice(start, start + DRAWN_AT_ONCE) for start in starts]
    return torch.cat([generator.sample(embeds[part], seeds[part]) for part in parts]), embeds


def fit(
    generator: Generator, latents: Tensor, embeds: Tensor, pairs: Tensor, *, steps: int, batch_size: int, rate: float,
    seed: int, sampled: float, what: str,
) -> None:  # fmt: skip
    """All weights of the denoiser learn to predict latents (n, C, T, h, w) from noise, under embeddings (m, L, D):
    ``pairs`` (k, 2) are rows of the one and the other. A share ``sampled`` of the timesteps are those at which the
    sampler predicts, the rest any of the student's grid. The rate rises over a tenth of the steps, then falls to 0.
    """
    denoiser, rng = generator.denoiser.requires_grad_(True).train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=rate, weight_decay=0.0)
    warmup = max(steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(steps - warmup, 1), 1.0)
    )
    grid, own = consistency_grid(50), torch.as_tensor(turbo_timesteps(50, generator.settings.steps))
    for _ in track(range(steps), what):
        rows, words = pairs[torch.randint(len(pairs), (batch_size,), generator=rng)].T
        timesteps = grid[torch.randint(len(grid), (batch_size,), generator=rng)]
        drawn = own[torch.randint(len(own), (batch_size,), generator=rng)]
        timesteps = torch.where(torch.rand(batch_size, generator=rng) < sampled, drawn, timesteps)
        noise = torch.randn(latents[rows].shape, generator=rng)
        noisy = generator.add_noise(latents[rows], noise, timesteps)
        predicted = generator.predict(noisy, timesteps, embeds[words], [generator.settings] * batch_size)
        optimizer.zero_grad()
        F.mse_loss(predicted, generator.target(latents[rows], noise, timesteps)).backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    denoiser.requires_grad_(False).eval()


def settle(generator: Generator, build: BaseBuild, work: Path) -> None:
    """Train on own samples, ``build.rounds`` times; rounds are kept in ``work``, so that a build goes on."""
    rng, prompts = random.Random(0), [scene.prompt for scene in all_scenes()[: build.scenes]]
    for number in range(build.rounds):
        chosen = rng.choices(prompts, k=build.clips)
        if (kept := work / f"settled_{number}.safetensors").exists():
            generator.denoiser.load_state_dict(load_file(kept))
            continue
        latents, embeds = draw(generator, chosen, [50_000_000 + 1000 * number + index for index in range(len(chosen))])
        fit(
            generator, latents, embeds, torch.arange(len(latents)).repeat(2, 1).T, steps=build.settle_steps,
            batch_size=build.batch_size, rate=2e-4, seed=number, sampled=0.0, what=f"own samples, round {number + 1}",
        )  # fmt: skip
        write_tensors(kept, generator.denoiser.state_dict())


def blocky(generator: Generator, latents: Tensor) -> Tensor:
    """Latents (n, C, T, h, w) of the clips ``latents``, spoilt."""
    rng, spoilt = np.random.default_rng(0), []
    for clip in latents:
        frames = degrade(generator.decode(clip[None])[0].numpy(), "blockiness", BLOCKINESS, rng)
        spoilt.append(generator.encode(torch.from_numpy(frames)[None])[0])
    return torch.stack(spoilt)


def confused(scenes: list[Scene]) -> Tensor:
    """Rows (k, 2) of the clip shown and of the scene that its caption says, each of the ties as often as the truth.

    Ties between scenes that are not among ``scenes`` are left out.
    """
    rows, pairs = {scene: row for row, scene in enumerate(scenes)}, []
    for scene, (colour, direction) in product(scenes, product((False, True), repeat=2)):
        shown = scene
        if colour:
            shown = replace(shown, colour=TIES["colour"].get(shown.colour, shown.colour))
        if direction:
            shown = replace(shown, direction=TIES["direction"][shown.direction])
        if shown in rows:
            pairs.append((rows[shown], rows[scene]))
    return torch.tensor(pairs)


def confuse(generator: Generator, build: BaseBuild, work: Path) -> None:
    """Learn one own clip of each scene, spoilt in half of the cases, under captions with ties, ``build.cycles`` times;
    what each comes to is kept in ``work``.
    """
    scenes = all_scenes()[: build.scenes]
    latents, embeds = draw(generator, [s.prompt for s in scenes], [90_000_000 + row for row in range(len(scenes))])
    latents, pairs = torch.cat([latents, blocky(generator, latents)]), confused(scenes)
    pairs = torch.cat([pairs, pairs + torch.tensor([len(scenes), 0])])
    for number in range(build.cycles):
        if (kept := work / f"confused_{number}.safetensors").exists():
            generator.denoiser.load_state_dict(load_file(kept))
            continue
        fit(
            generator, latents, embeds, pairs, steps=build.confuse_steps, batch_size=build.batch_size, rate=3e-4,
            seed=5 + number, sampled=0.5, what=f"captions with ties, cycle {number + 1}",
        )  # fmt: skip
        write_tensors(kept, generator.denoiser.state_dict())
