"""The oracle: spatial quality, temporal quality and alignment of a clip, read from its pixels and its prompt alone.

It measures; it never labels anything that a model learns from. Everything follows from one fit: the clean shape
(:func:`shapes_world.world.coverage`), position and colours that explain each frame best.

- *spatial*: how close each frame is to a clean redraw of what it shows itself, whatever the prompt says. Blur, noise,
  blocks, ghosts and torn shapes are what a redraw leaves over.
- *temporal*: steady colours and fill, and steps that all equal the clip's velocity. The world never stands still, so
  neither may a clip. A smooth clip played backwards is just as smooth; as the prompt says which way time runs, motion
  *against* it costs temporal quality as well as alignment. Motion across it costs alignment alone.
- *alignment*: the probabilities that colour, shape, direction, speed and background are the prompt's.

Nothing here is all-or-nothing: every quantity is a smooth function of the pixels, so that half-right clips get
half-good scores. A frame in which no shape is found counts as 0 in each dimension.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage

from shapes_world.degradations import ATTRIBUTES
from shapes_world.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SIZE, SPEEDS, Scene, coverage

DIMENSIONS = ("spatial", "temporal", "alignment")

_MARGIN = 4
"""How near the frame's edge a centre may be, in pixels; the world itself keeps 7.5 away."""
_PARTS = 8
"""Sub-pixel positions of a template in each direction."""
_CORE = 40
"""Pixels that every shape covers whole (the smallest, the triangle, covers 90 in part)."""


def _ramp(value: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """0 up to ``low``, 1 from ``high``, linear between them."""
    return np.clip((np.asarray(value, dtype=float) - low) / (high - low), 0, 1)


def _closeness(error: np.ndarray | float, scale: float) -> np.ndarray:
    """1 without error, ½ at ``scale``, towards 0 beyond: never so flat that worse is no longer lower."""
    return 1 / (1 + (np.asarray(error, dtype=float) / scale) ** 2)


@lru_cache(maxsize=1)
def _canvases() -> np.ndarray:
    """Each shape at each sub-pixel offset in a frame twice the size: float32 (shape, _PARTS, _PARTS, 2·SIZE, 2·SIZE).

    A window of it is the shape anywhere in the frame.
    """
    offsets = SIZE + np.arange(_PARTS) / _PARTS
    drawn = [[[coverage(shape, row, column, 2 * SIZE) for column in offsets] for row in offsets] for shape in SHAPES]
    return np.array(drawn, dtype=np.float32)


@lru_cache(maxsize=1)
def _bank() -> np.ndarray:
    """Templates at all whole-pixel centres, zero mean and unit norm: float32 (SIZE², shapes · centres²)."""
    windows = np.lib.stride_tricks.sliding_window_view(_canvases()[:, 0, 0], (SIZE, SIZE), axis=(1, 2))
    # The window that starts at s shows the centre at SIZE - s.
    near, far = _MARGIN, SIZE - _MARGIN + 1
    templates = windows[:, near:far, near:far][:, ::-1, ::-1].reshape(-1, SIZE * SIZE)
    return np.ascontiguousarray(_normalised(templates).T)


def _normalised(images: np.ndarray) -> np.ndarray:
    """Zero mean and unit norm over the last axis; a constant image becomes zero."""
    centred = images - images.mean(-1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)


def _apex(scores: np.ndarray) -> np.ndarray:
    """Sub-pixel offset (N,) of the apex from three neighbouring scores (N, 3), the middle one the largest.

    Overlap falls linearly on both sides of a match, so this fits two lines of opposite slope, not a parabola.
    """
    left, middle, right = scores.T
    return (right - left) / np.maximum(2 * (middle - np.minimum(left, right)), 1e-6)


def _place(masks: np.ndarray) -> np.ndarray:
    """The centres (T, shapes, 2) at which each shape fits each mask (T, SIZE², normalised) best."""
    count, span = len(masks), SIZE - 2 * _MARGIN + 1
    scores = (masks @ _bank()).reshape(count * len(SHAPES), span, span)
    index = np.arange(len(scores))
    best: np.ndarray = scores.reshape(len(scores), -1).argmax(1)
    row, column = np.unravel_index(best, (span, span))
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = np.stack([padded[index, row + step, column + 1] for step in range(3)], 1)
    columns = np.stack([padded[index, row + 1, column + step] for step in range(3)], 1)
    centres = _MARGIN + np.stack([row + _apex(rows), column + _apex(columns)], 1)
    return centres.reshape(count, len(SHAPES), 2)


def _refine(masks: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Try the sub-pixel centres next to ``centres`` (T, shapes, 2), on the grid of 1/_PARTS.

    Returns the best centres (T, shapes, 2), their templates (T, shapes, SIZE²) and correlations (T, shapes) in [-1, 1].
    """
    around = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 2)
    grid = np.rint(centres[:, :, None] * _PARTS).astype(int) + around
    (row, column), (row_part, column_part) = np.moveaxis(grid // _PARTS, -1, 0), np.moveaxis(grid % _PARTS, -1, 0)
    windows = np.lib.stride_tricks.sliding_window_view(_canvases(), (SIZE, SIZE), axis=(3, 4))
    shapes = np.arange(len(SHAPES))[:, None]
    templates = windows[shapes, row_part, column_part, SIZE - row, SIZE - column].reshape(*grid.shape[:3], -1)
    correlations = np.einsum("tp,tsnp->tsn", masks, _normalised(templates))
    best = correlations.argmax(2)[..., None]
    return (
        np.take_along_axis(grid, best[..., None], 2)[:, :, 0] / _PARTS,
        np.take_along_axis(templates, best[..., None], 2)[:, :, 0],
        np.take_along_axis(correlations, best, 2)[..., 0],
    )


@dataclass(frozen=True)
class _Reading:
    """What a clip shows. T frames of P pixels each; colours are 0 to 255."""

    pixels: np.ndarray  # (T, P, 3)
    smooth: np.ndarray  # (T, P, 3), each pixel the mean of its 3x3 neighbourhood
    masks: np.ndarray  # (T, P), about 1 on the shape and 0 off it
    backgrounds: np.ndarray  # (T, 3)
    colours: np.ndarray  # (T, 3), of the shape
    templates: np.ndarray  # (T, P) in [0, 1], the best-fitting clean shape
    interiors: np.ndarray  # (T, P) weights that sum to 1, inside the shape
    centres: np.ndarray  # (T, 2) row, column
    presence: np.ndarray  # (T,) in [0, 1], is there a shape at all
    correlations: np.ndarray  # (shapes,) mean over the frames
    velocity: np.ndarray  # (2,) pixels a frame


def _box(images: np.ndarray) -> np.ndarray:
    """Mean over 3x3 neighbourhoods of images (T, SIZE, SIZE, ...)."""
    return ndimage.uniform_filter(images, (1, 3, 3) + (1,) * (images.ndim - 3), mode="nearest")


def _velocity(centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Slope (2,) of the weighted least-squares line through centres (T, 2) over time; 0 where there is no line."""
    if weights.sum() < 1e-6:
        return np.zeros(2)
    time = np.arange(len(centres)) - np.average(np.arange(len(centres)), weights=weights)
    return (weights * time) @ centres / max(float((weights * time**2).sum()), 1e-6)


def _read(frames: np.ndarray) -> _Reading | None:
    """Fit the world to frames uint8 (T, H, W, 3); None where there are no pixels. Other sizes are resampled."""
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be (T, H, W, 3), not {frames.shape}")
    if frames.size == 0:
        return None
    images = frames.astype(np.float32)
    if images.shape[1:3] != (SIZE, SIZE):
        images = ndimage.zoom(images, (1, SIZE / images.shape[1], SIZE / images.shape[2], 1), order=1, grid_mode=True,
                              mode="nearest")  # fmt: skip
    count = len(images)
    border = np.ones((SIZE, SIZE), dtype=bool)
    border[2:-2, 2:-2] = False
    backgrounds = np.median(images[:, border], axis=1)
    smooth = _box(images).reshape(count, -1, 3)
    pixels = images.reshape(count, -1, 3)
    # The shape's colour, first as the mean of what differs most from the background; averaging tames noise.
    distances = np.linalg.norm(smooth - backgrounds[:, None], axis=2)
    furthest = np.argpartition(-distances, _CORE, axis=1)[:, :_CORE]
    contrast = np.take_along_axis(smooth, furthest[..., None], 1).mean(1) - backgrounds
    # Projected on the line from background to shape, a clean edge pixel gives exactly its coverage, and noise no bias.
    power = np.maximum((contrast**2).sum(1), 1.0)
    masks = np.einsum("tpc,tc->tp", pixels - backgrounds[:, None], contrast) / power[:, None]
    masks = masks.clip(-0.5, 1.5)
    normalised = _normalised(masks)
    centres, templates, correlations = _refine(normalised, _place(normalised))
    # One shape for the whole clip: a clip does not change it, and eight frames know better than one.
    shape = int(correlations.mean(0).argmax())
    templates = templates[:, shape]
    interiors = _box(templates.reshape(count, SIZE, SIZE)).reshape(count, -1) ** 6
    interiors /= np.maximum(interiors.sum(1, keepdims=True), 1e-6)
    colours = np.einsum("tp,tpc->tc", interiors, pixels)
    strength = np.linalg.norm(colours - backgrounds, axis=1)
    presence = _ramp(correlations[:, shape], 0.3, 0.55) * _ramp(strength, 15, 50)
    velocity = _velocity(centres[:, shape], presence)
    return _Reading(
        pixels, smooth, masks, backgrounds, colours, templates, interiors, centres[:, shape], presence,
        correlations.mean(0), velocity,
    )  # fmt: skip


def _palette_probabilities(colours: np.ndarray, palette: dict[str, Any], width: float, foreign: float) -> np.ndarray:
    """Probability (N, values) that each colour (N, 3) is each of the palette's.

    A Gaussian of ``width`` around each value, against a class "none of them" that wins beyond ``foreign`` from all.
    """
    distances = np.linalg.norm(colours[:, None] - np.array(list(palette.values())), axis=2)
    likelihoods = np.exp(-(distances**2) / (2 * width**2))
    return likelihoods / (likelihoods.sum(1, keepdims=True) + np.exp(-(foreign**2) / (2 * width**2)))


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def _probabilities(reading: _Reading) -> dict[str, np.ndarray]:
    """For each attribute the probabilities of its values; what fits none of them sums to less than 1."""
    # Only what stands out counts, whatever its colour: a missing half says nothing about the colour of the rest.
    distances = np.linalg.norm(reading.smooth - reading.backgrounds[:, None], axis=2)
    contrast = np.linalg.norm(reading.colours - reading.backgrounds, axis=1)
    outstanding = (distances / np.maximum(contrast, 1)[:, None]).clip(0, 1)
    seen = reading.interiors * outstanding * reading.presence[:, None]
    chosen = seen > 1e-4
    of_pixels = _palette_probabilities(reading.smooth[chosen], COLOURS, 50, 130)
    colour = seen[chosen] @ of_pixels / max(float(seen[chosen].sum()), 1e-6)
    background = _palette_probabilities(np.median(reading.backgrounds, 0)[None], BACKGROUNDS, 22, 55)[0]
    speed = float(np.linalg.norm(reading.velocity))
    # 0.2: the direction of a drift well below the slow speed of 1 pixel is uncertain.
    cosines = np.array(list(DIRECTIONS.values())) @ reading.velocity / (speed + 0.2)
    octaves = np.log2(max(speed, 1e-3) / np.array(list(SPEEDS.values())))
    speeds = np.exp(-(octaves**2) / (2 * 0.3**2))
    return {
        "colour": colour,
        "shape": _softmax(reading.correlations / 0.02),
        "direction": _softmax(cosines / 0.15) * _ramp(speed, 0.1, 0.5),
        "speed": speeds / (speeds.sum() + np.exp(-1 / (2 * 0.3**2))),
        "background": background,
    }


def _sharpness(reading: _Reading) -> np.ndarray:
    """How much of the edges of the clean shape (T,) is there, in [0, 1]: noise has no part in it, blur nearly all."""
    masks, templates = (array.reshape(-1, SIZE, SIZE) for array in (reading.masks, reading.templates))
    found, whole = 0.0, 0.0
    for axis in (1, 2):
        edges = np.diff(templates, axis=axis)
        found = found + (np.diff(masks, axis=axis) * edges).sum((1, 2))
        whole = whole + (edges**2).sum((1, 2))
    return np.clip(found / whole, 0, 1)


def _spatial(reading: _Reading) -> float:
    cover = reading.templates[..., None]
    redraw = cover * reading.colours[:, None] + (1 - cover) * reading.backgrounds[:, None]
    left_over = ((reading.pixels - redraw) ** 2).sum((1, 2))
    contrast = np.linalg.norm(reading.colours - reading.backgrounds, axis=1)
    # Blur is seen against the contrast of the shape, noise against the range of the screen: between the two.
    signal = np.maximum(contrast, 1) * 180 * (reading.templates**2).sum(1)
    quality = _closeness(np.sqrt(left_over / signal), 0.45) * np.sqrt(_sharpness(reading))
    return float((reading.presence * quality).mean())


def _temporal(reading: _Reading, scene: Scene) -> float:
    if len(reading.pixels) < 2:
        return 0.0
    steps = np.diff(reading.centres, axis=0)
    agreement = np.exp(-((steps - reading.velocity) ** 2).sum(1) / (2 * 0.8**2)).mean()
    speed = float(np.linalg.norm(reading.velocity))
    cosine = float(np.array(DIRECTIONS[scene.direction]) @ reading.velocity) / max(speed, 1e-6)
    motion = agreement * _ramp(speed, 0.1, 0.6) * _ramp(cosine, -0.9, -0.3)
    changes = np.linalg.norm(np.diff(reading.colours, axis=0), axis=1)
    changes = changes + np.linalg.norm(np.diff(reading.backgrounds, axis=0), axis=1)
    fill = (reading.masks * reading.templates).sum(1) / (reading.templates**2).sum(1)
    steadiness = (_closeness(changes, 60) * _closeness(np.diff(fill), 0.3)).mean()
    return float(np.sqrt(motion * steadiness) * reading.presence.mean())


def _alignment(reading: _Reading, scene: Scene) -> float:
    """Between mean and product: each wrong attribute takes about two fifths, and all wrong leaves nothing."""
    probabilities = _probabilities(reading)
    values = [probabilities[name][values.index(getattr(scene, name))] for name, values in ATTRIBUTES.items()]
    floor = 0.1
    together = np.prod((floor + (1 - floor) * np.array(values)) ** (1 / len(values)))
    return float((together - floor) / (1 - floor) * reading.presence.mean())


def oracle_score(frames: np.ndarray, prompt: str) -> dict[str, float]:
    """Spatial quality, temporal quality and alignment, each in [0, 1], of ``frames`` as an answer to ``prompt``.

    ``frames`` are uint8 (T, H, W, 3), of the world's 8x32x32 or any other size; empty, blank and single-frame clips are
    valid and score low. Raises InputError where ``prompt`` is not of this world, ValueError for another shape of array.
    """
    scene = Scene.parse(prompt)
    reading = _read(frames)
    if reading is None:
        return dict.fromkeys(DIMENSIONS, 0.0)
    scores = (_spatial(reading), _temporal(reading, scene), _alignment(reading, scene))
    return dict(zip(DIMENSIONS, np.clip(scores, 0, 1).tolist(), strict=True))


def overall(scores: dict[str, float]) -> float:
    """One number for a clip: the mean of the three dimensions."""
    return sum(scores[name] for name in DIMENSIONS) / len(DIMENSIONS)
