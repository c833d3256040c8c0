"""What the tiny judge learns from: rendered clips with known damage, described and compared in words.

Ground truth comes from how a clip was made (its scene, the strength of each damage), never from the oracle.
"""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL

from shapes_world.degradations import SPATIAL, TEMPORAL, degrade, wrong
from shapes_world.world import BACKGROUNDS, DIRECTIONS, Scene, all_scenes, draw, trajectory
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
        """How well the clip shows what ``prompt`` asks for, in [0, 1]; each wrong attribute costs about 40 %.

        A geometric mean over the attributes with floor 0.1, stretched to [0, 1].
        """
        wrong_ones = sum(getattr(self.scene, name) != getattr(prompt, name) for name in ATTRIBUTES)
        return (0.1 ** (wrong_ones / len(ATTRIBUTES)) - 0.1) / 0.9

    def runs_backwards(self, prompt: Scene) -> bool:
        """Whether the clip moves against the direction that ``prompt`` asks for."""
        step, asked = DIRECTIONS[self.scene.direction], DIRECTIONS[prompt.direction]
        return step == (-asked[0], -asked[1])

    def steadiness(self, prompt: Scene) -> float:
        """Temporal quality in the light of ``prompt``, in [0, 1]: a clip that runs backwards has none."""
        return 0.0 if self.runs_backwards(prompt) else self.temporal

    def overall(self, prompt: Scene) -> float:
        """Mean of the three qualities, in [0, 1]: what decides a comparison."""
        return (self.spatial + self.steadiness(prompt) + self.alignment(prompt)) / 3

    @property
    def quality(self) -> str:
        """Spatial and temporal quality in levels."""
        return f"clear {round(self.spatial * LEVELS)} steady {round(self.temporal * LEVELS)}"

    @property
    def description(self) -> str:
        """What a judge should see without knowing the prompt: attributes in words, then quality in levels."""
        return " ".join(getattr(self.scene, name) for name in ATTRIBUTES) + f" {self.quality}"

    def assessment(self, prompt: Scene) -> str:
        """What a judge should think with the prompt in mind: for each attribute what it sees, what was asked and
        whether that agrees; then quality, and what follows from it all.

        Small models reason one step at a time: each word is read off the clip, copied from the prompt, or follows from
        the few words before it.
        """
        words = []
        for name in ATTRIBUTES:
            shown, asked = getattr(self.scene, name), getattr(prompt, name)
            backwards = name == "direction" and self.runs_backwards(prompt)
            words += [shown, asked, "yes" if shown == asked else "against" if backwards else "no"]
        match, total = round(self.alignment(prompt) * LEVELS), round(self.overall(prompt) * 3 * LEVELS)
        return f"{' '.join(words)} {self.quality} match {match} total {total}"


def reasoning(first: DamagedClip, second: DamagedClip, prompt: Scene) -> str:
    """The thought and answer that a comparison should get; a draw is decided by the finer truth behind the levels."""
    better = "1" if first.overall(prompt) > second.overall(prompt) else "2"
    thought = f"1 {first.assessment(prompt)} ; 2 {second.assessment(prompt)}"
    return f"<think>{thought}</think><answer>{better}</answer>"


@torch.no_grad()
def _encode(vae: AutoencoderKL, frames: np.ndarray) -> torch.Tensor:
    return vae.encode(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean


def _decode(vae: AutoencoderKL, latents: torch.Tensor) -> np.ndarray:
    return ((vae.decode(latents).sample.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def distort(vae: AutoencoderKL, frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of ``strength`` on the latents, which drifts slowly from frame to frame: how a latent generator goes
    wrong.
    """
    latents = _encode(vae, frames)
    noise = rng.standard_normal((1, *latents.shape[1:])) * 0.8 + rng.standard_normal(latents.shape) * 0.6
    return _decode(vae, latents + 1.1 * strength / vae.config.scaling_factor * torch.from_numpy(noise).float())


@torch.no_grad()
def blend(vae: AutoencoderKL, frames: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mix two clips in latent space, frame by frame; ``weights`` (T,) in [0, 1] is the share of ``other``."""
    share = torch.from_numpy(weights).float().view(-1, 1, 1, 1)
    return _decode(vae, (1 - share) * _encode(vae, frames) + share * _encode(vae, other))


def damaged_clip(scene: Scene, seed: int, vae: AutoencoderKL) -> DamagedClip:
    """Render ``scene`` with random damage; everything follows from ``seed``.

    Besides the plain degradations there is what latent generators do: distorted latents, a shape that fades into the
    background (spatial), one that turns into another on its way (temporal). Many undamaged clips go through the
    autoencoder too, so that its look alone tells nothing.
    """
    rng = np.random.default_rng(seed_for("damaged", seed))
    centres = trajectory(scene, rng)
    frames, spatial, temporal = draw(scene, centres), 1.0, 1.0
    strength = rng.uniform(0.15, 1)
    kind = rng.choice(("none", "morph", "order"), p=(0.42, 0.22, 0.36))
    if kind == "morph":
        other = wrong(scene, str(rng.choice(("colour", "colour", "shape"))), rng)
        ramp = np.linspace(0, 1, len(frames)) if rng.random() < 0.5 else np.linspace(1, 0, len(frames))
        frames, temporal = blend(vae, frames, draw(other, centres), 0.9 * strength * ramp), 1 - 0.8 * strength
    elif kind == "order":
        frames, temporal = degrade(frames, rng.choice(TEMPORAL_DAMAGE), strength, rng), 1 - strength
    strength = rng.uniform(0.1, 1)
    kind = rng.choice(("none", "autoencoder", "distort", "fade", *SPATIAL), p=(0.16, 0.14, 0.34, 0.1, 0.1, 0.08, 0.08))
    if kind == "autoencoder":
        frames = blend(vae, frames, frames, np.zeros(len(frames)))
    elif kind == "distort":
        frames, spatial = distort(vae, frames, strength, rng), 1 - strength
    elif kind == "fade":
        empty = np.broadcast_to(np.array(BACKGROUNDS[scene.background], np.uint8), frames.shape).copy()
        ends = rng.uniform(0.5, 1, 2) * strength
        frames, spatial = blend(vae, frames, empty, np.linspace(*ends, len(frames))), 1 - ends.mean()
    elif kind != "none":
        frames, spatial = degrade(frames, kind, strength, rng), 1 - strength
    return DamagedClip(frames, scene, float(spatial), float(temporal))


TEMPORAL_DAMAGE = tuple(name for name in TEMPORAL if name != "reverse")
"""A reversed clip is a perfect clip of the opposite direction, so it counts as a wrong attribute instead."""


def with_errors(scene: Scene, rng: np.random.Generator, share: float = 0.3) -> Scene:
    """``scene`` with each attribute wrong in ``share`` of the cases."""
    for attribute in ATTRIBUTES:
        if rng.random() < share:
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
