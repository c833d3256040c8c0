"""Graded degradations of clips, one family for each dimension that the oracle scores.

*Spatial* ones spoil every picture and leave the order alone, *temporal* ones the other way round, and :func:`wrong`
makes a scene that breaks exactly one promise of its prompt.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from reward_model.perturbations import PERTURBATIONS
from shapes_world.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SPEEDS, Scene

BLUR_SIGMA, NOISE_STD, BLOCK, FLICKER = 3.0, 60.0, 8, 0.6
"""What strength 1 is: pixels, grey levels, pixels, and the share of brightness gained or lost."""
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
    "speed": tuple(SPEEDS),
    "background": tuple(BACKGROUNDS),
}
"""The attributes of a scene and their values."""


def blur(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur within each frame; never across time or channels."""
    sigma = BLUR_SIGMA * strength
    return ndimage.gaussian_filter(frames, (0, sigma, sigma, 0), mode="nearest")


def noise(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise, drawn anew for each value and clipped with the frame."""
    return frames + rng.normal(0, NOISE_STD * strength, frames.shape)


def blockiness(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blend towards the means of 8x8 blocks, as a codec that keeps little more than each block's mean."""
    mosaic: np.ndarray = frames
    for axis in (1, 2):
        size: int = mosaic.shape[axis]
        starts = np.arange(0, size, BLOCK)
        widths = np.diff(np.append(starts, size))
        sums = np.add.reduceat(mosaic, starts, axis)
        means = sums / np.expand_dims(widths, tuple(i for i in range(4) if i != axis))
        mosaic = np.repeat(means, widths, axis)
    return (1 - strength) * frames + strength * mosaic


def flicker(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Frames brighter and darker in turn: neighbours always differ, so that flicker is never drawn invisibly weak."""
    count = len(frames)
    signs = np.where((np.arange(count) + rng.integers(2)) % 2, 1.0, -1.0)
    gain = 1 + FLICKER * strength * signs * rng.uniform(0.75, 1.0, count)
    return frames * gain[:, None, None, None]


_SPATIAL = {"blur": blur, "noise": noise, "blockiness": blockiness}
SPATIAL: tuple[str, ...] = tuple(_SPATIAL)
TEMPORAL: tuple[str, ...] = ("flicker", *PERTURBATIONS)


def degrade(frames: np.ndarray, name: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A copy of ``frames``, uint8 (T, H, W, 3), degraded by ``name`` of SPATIAL or TEMPORAL.

    ``strength`` in [0, 1]: 0 leaves the frames as they are, 1 is the strongest; between them the damage grows (for the
    perturbations of order: the number of frames affected). Raises ValueError for an unknown name or a strength outside
    [0, 1].
    """
    if name not in SPATIAL + TEMPORAL:
        raise ValueError(f"unknown degradation {name!r}; there are {', '.join(SPATIAL + TEMPORAL)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in [0, 1], not {strength}")
    if strength == 0:
        return frames.copy()
    if name in PERTURBATIONS:
        return PERTURBATIONS[name](frames, rng, strength)
    function = flicker if name == "flicker" else _SPATIAL[name]
    return np.rint(function(frames.astype(np.float64), strength, rng)).clip(0, 255).astype(np.uint8)


def wrong(scene: Scene, attribute: str, rng: np.random.Generator) -> Scene:
    """``scene`` with another value, drawn at random, for ``attribute`` (a key of ATTRIBUTES; KeyError otherwise)."""
    others = [value for value in ATTRIBUTES[attribute] if value != getattr(scene, attribute)]
    return dataclasses.replace(scene, **{attribute: others[rng.integers(len(others))]})
