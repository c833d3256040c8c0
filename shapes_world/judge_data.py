"""What the tiny judge learns from: rendered clips with known damage, described and compared in words.

Ground truth comes from how a clip was made (its scene, the strength of each damage), never from the oracle.
"""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL

from shapes_world.degradations import SPATIAL, TEMPORAL, degrade, wrong
from shapes_world.world import Scene, all_scenes, draw, trajectory
from videoduet.seeding import seed_for

ATTRIBUTES = ("colour", "shape", "direction", "speed", "background")
LEVELS = 10
"""Quality is told in levels 0 (worst) to LEVELS (best)."""


@dataclass(frozen=True)
class DamagedClip:
    """Frames uint8 (8, 32, 32, 3), the scene they show, and their spatial and temporal quality in [0, 1]."""

    frames: np.ndarray
    scene: Scene
    spatial: float
    temporal: float

    def alignment(self, prompt: Scene) -> float:
        """Share of the prompt's attributes that the clip shows, in [0, 1]."""
        return float(np.mean([getattr(self.scene, name) == getattr(prompt, name) for name in ATTRIBUTES]))

    def overall(self, prompt: Scene) -> float:
        """Mean of the three qualities, in [0, 1]: what decides a comparison."""
        return (self.spatial + self.temporal + self.alignment(prompt)) / 3

    @property
    def description(self) -> str:
        """What a judge should see: attributes in words, then spatial and temporal quality in levels."""
        scene = self.scene
        words = f"{scene.colour} {scene.shape} {scene.direction} {scene.speed} {scene.background}"
        return f"{words} clear {round(self.spatial * LEVELS)} steady {round(self.temporal * LEVELS)}"


def reasoning(first: DamagedClip, second: DamagedClip, prompt: Scene) -> str:
    """The thought and answer that a comparison should get; a draw is decided by the finer truth behind the levels."""
    parts = [
        f"{name} {clip.description} match {round(clip.alignment(prompt) * 5)} total {round(clip.overall(prompt) * 3 * LEVELS)}"
        for name, clip in (("1", first), ("2", second))
    ]
    better = "1" if first.overall(prompt) > second.overall(prompt) else "2"
    return f"<think>{parts[0]} ; {parts[1]}</think><answer>{better}</answer>"


@torch.no_grad()
def _through_latents(vae: AutoencoderKL, frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Encode, add noise of ``strength`` to the latents, decode: the kind of damage a latent generator makes."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
    # The damage drifts slowly from frame to frame, as a generator's does.
    drift = rng.standard_normal((1, *latents.shape[1:])) * 0.8 + rng.standard_normal(latents.shape) * 0.6
    latents = latents + strength * torch.from_numpy(drift).float()
    decoded = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
    return ((decoded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def damaged_clip(scene: Scene, seed: int, vae: AutoencoderKL) -> DamagedClip:
    """Render ``scene`` with random damage; everything follows from ``seed``.

    Half of the clips go through the generator's autoencoder, so that its look alone tells nothing.
    """
    rng = np.random.default_rng(seed_for("damaged", seed))
    frames, spatial, temporal = draw(scene, trajectory(scene, rng)), 1.0, 1.0
    if rng.random() < 0.55:
        strength = rng.uniform(0.15, 1)
        frames, temporal = degrade(frames, rng.choice(TEMPORAL_DAMAGE), strength, rng), 1 - strength
    kind = rng.choice(("none", "latents", *SPATIAL), p=(0.3, 0.35, 0.15, 0.1, 0.1))
    if kind == "latents":
        strength = rng.uniform(0, 1)
        frames, spatial = _through_latents(vae, frames, 1.1 * strength, rng), 1 - strength
    elif kind != "none":
        strength = rng.uniform(0.15, 1)
        frames, spatial = degrade(frames, kind, strength, rng), 1 - strength
        if rng.random() < 0.3:
            frames = _through_latents(vae, frames, 0.0, rng)
    elif rng.random() < 0.4:
        frames = _through_latents(vae, frames, 0.0, rng)
    return DamagedClip(frames, scene, spatial, temporal)


TEMPORAL_DAMAGE = tuple(name for name in TEMPORAL if name != "reverse")
"""A reversed clip is a perfect clip of the opposite direction, so it counts as a wrong attribute instead."""


def clip_pool(count: int, seed: int, vae: AutoencoderKL) -> list[DamagedClip]:
    """``count`` damaged clips of scenes in equal shares."""
    scenes = all_scenes()
    order = np.random.default_rng(seed_for("scenes", seed)).permutation(count)
    return [damaged_clip(scenes[int(order[i]) % len(scenes)], seed_for(seed, i), vae) for i in range(count)]


def with_errors(scene: Scene, rng: np.random.Generator) -> Scene:
    """``scene`` with each attribute wrong in one case of four, but never all right or all wrong by rule."""
    for attribute in ATTRIBUTES:
        if rng.random() < 0.25:
            scene = wrong(scene, attribute, rng)
    return scene


@dataclass(frozen=True)
class ClipPair:
    """Two damaged clips drawn for one prompt."""

    prompt: Scene
    first: DamagedClip
    second: DamagedClip

    @property
    def gap(self) -> float:
        """How much better the first is, in [-1, 1]."""
        return self.first.overall(self.prompt) - self.second.overall(self.prompt)


def clip_pairs(count: int, seed: int, vae: AutoencoderKL, min_gap: float = 0.03) -> list[ClipPair]:
    """Pairs whose truth differs by at least ``min_gap``, order random: clips of one prompt with errors and damage."""
    scenes, pairs, index = all_scenes(), [], 0
    while len(pairs) < count:
        rng = np.random.default_rng(seed_for("pair", seed, index))
        prompt = scenes[rng.integers(len(scenes))]
        clips = [damaged_clip(with_errors(prompt, rng), seed_for("pair", seed, index, side), vae) for side in (0, 1)]
        pair = ClipPair(prompt, *clips)
        if abs(pair.gap) >= min_gap:
            pairs.append(pair)
        index += 1
    return pairs
