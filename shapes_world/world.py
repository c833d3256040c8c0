"""Shapes world: short clips of one coloured shape that moves over a plain background, with exact ground truth.

A :class:`Scene` is what a prompt says ("a red circle moving left fast on a navy background"); :func:`render` draws it.
"""

import itertools
import re
from dataclasses import dataclass

import numpy as np

from videoduet.errors import InputError
from videoduet.seeding import seed_for

NUM_FRAMES, SIZE, FPS = 8, 32, 8
COLOURS = {
    "red": (225, 45, 45),
    "green": (50, 190, 70),
    "blue": (60, 95, 235),
    "yellow": (240, 220, 50),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Unit step (rows, columns) of each direction."""
SPEEDS = {"slowly": 1.0, "fast": 2.0}
"""Pixels a frame."""
BACKGROUNDS = {"black": (12, 12, 12), "purple": (70, 30, 90), "teal": (15, 75, 80)}
RADIUS = 6.5
"""Half-extent of a shape in pixels."""

_PATTERN = re.compile(
    rf"a ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) moving ({'|'.join(DIRECTIONS)}) ({'|'.join(SPEEDS)})"
    rf" on a ({'|'.join(BACKGROUNDS)}) background"
)


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for: one word for each attribute."""

    colour: str
    shape: str
    direction: str
    speed: str
    background: str

    @property
    def prompt(self) -> str:
        """The prompt that asks for this."""
        return f"a {self.colour} {self.shape} moving {self.direction} {self.speed} on a {self.background} background"

    @classmethod
    def parse(cls, prompt: str) -> "Scene":
        """Read a prompt of this world. Raises InputError where it is none."""
        match = _PATTERN.fullmatch(prompt.strip().lower())
        if match is None:
            raise InputError(f"{prompt!r} is no shapes-world prompt; one reads like {all_scenes()[0].prompt!r}.")
        return cls(*match.groups())


def all_scenes() -> list[Scene]:
    """Every scene of the world, in a fixed order."""
    return list(itertools.starmap(Scene, itertools.product(COLOURS, SHAPES, DIRECTIONS, SPEEDS, BACKGROUNDS)))


def coverage(shape: str, row: float, column: float, size: int = SIZE, supersample: int = 4) -> np.ndarray:
    """How much of each pixel the shape centred at (row, column) covers: float (size, size) in [0, 1]."""
    axis = (np.arange(size * supersample) + 0.5) / supersample
    y, x = axis[:, None] - row, axis[None, :] - column
    if shape == "circle":
        inside = y**2 + x**2 <= RADIUS**2
    elif shape == "square":
        inside = (abs(y) <= 0.86 * RADIUS) & (abs(x) <= 0.86 * RADIUS)
    else:  # a triangle that points up
        inside = (y <= 0.86 * RADIUS) & (y >= -RADIUS) & (abs(x) <= (y + RADIUS) / (1.86 * RADIUS) * RADIUS * 1.15)
    return inside.reshape(size, supersample, size, supersample).mean((1, 3))


def trajectory(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Centres (T, 2) in pixels (row, column): a straight line at constant speed that stays inside the frame."""
    step = np.array(DIRECTIONS[scene.direction]) * SPEEDS[scene.speed]
    offsets = (np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2)[:, None] * step
    return SIZE / 2 + rng.uniform(-1.5, 1.5, 2) + offsets


def draw(scene: Scene, centres: np.ndarray) -> np.ndarray:
    """Draw ``scene`` with its shape at ``centres`` (T, 2): frames uint8 (T, H, W, 3)."""
    cover = np.stack([coverage(scene.shape, *centre) for centre in centres])[..., None]
    colour, background = np.array(COLOURS[scene.colour]), np.array(BACKGROUNDS[scene.background])
    return np.rint(cover * colour + (1 - cover) * background).astype(np.uint8)


def render(prompt: str, seed: int) -> np.ndarray:
    """Draw what ``prompt`` says: uint8 (8, 32, 32, 3). ``seed`` moves where the path lies, by up to 1.5 pixels.

    Raises InputError where ``prompt`` is not of this world.
    """
    scene = Scene.parse(prompt)
    return draw(scene, trajectory(scene, np.random.default_rng(seed_for("render", seed))))
