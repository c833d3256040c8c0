"""Whether a judge sees time: what it says of held-out clips, and of the same clips spoilt in time alone.

Rewards shuffle frames; what counts is measured on what no temporal reward shows: clips that freeze, drop frames, jitter
and flicker, each in three strengths. Two statistics, clip by clip: by how much the score falls, and how often the more
severe of two versions of a clip gets the lower score.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.reward_learning_data import SCALE, damaged_clips, shipped_vae, write_csv
from reward_model.datasets import ScoredClip
from reward_model.perturbations import global_shuffle, jitter, random_drop
from shapes_world.degradations import degrade
from shapes_world.world import FPS
from videoduet.intervals import bootstrap_interval
from videoduet.video import write_video

Spoil = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def freeze(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """``frames`` (T, ...) that stand still from a random moment for ``strength`` of the clip, and then go on."""
    count = len(frames)
    still = max(1, round(strength * (count - 1)))
    start, order = rng.integers(count - still), np.arange(count)
    order[start : start + still + 1] = start
    return frames[order]


UNTRAINED: dict[str, Spoil] = {
    "frozen": freeze,
    "dropped": lambda frames, strength, rng: random_drop(frames, rng, strength),
    "jittered": lambda frames, strength, rng: jitter(frames, rng, strength),
    "flickering": lambda frames, strength, rng: degrade(frames, "flicker", strength, rng),
}
TRAINED: dict[str, Spoil] = {"shuffled": lambda frames, strength, rng: global_shuffle(frames, rng, strength)}
SPOILT = UNTRAINED | TRAINED
STRENGTHS = (1 / 3, 2 / 3, 1.0)
WHOLE = "whole"


def _versions(frames: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{WHOLE}_0", frames
    for kind, spoil in SPOILT.items():
        for level, strength in enumerate(STRENGTHS, start=1):
            yield f"{kind}_{level}", spoil(frames, strength, rng)


def write_spoilt(folder: Path, count: int, seed: int) -> None:
    """LSVQ's held-out part of ``count`` clips without any damage in time, each in all its versions, all under the score
    of the clip as it was.
    """
    folder.mkdir(parents=True)
    steady = (clip for clip in damaged_clips("spoilt", seed, shipped_vae()) if clip.temporal == 1)
    rows = []
    for index, clip in zip(range(count), steady, strict=False):
        for name, frames in _versions(clip.frames, np.random.default_rng(index)):
            write_video(folder / f"{index}_{name}.mp4", frames, FPS)
            rows.append((f"{index}_{name}", 50 * (clip.spatial + 1), 1))
    write_csv(folder / "labels_train_test.csv", ("name", "mos", "is_test"), *rows)


def said_of(items: Sequence[ScoredClip], scores: Sequence[float | None]) -> dict[str, list[float]]:
    """The score of every version, by its name, clip after clip; one beyond the scale is its end, and an answer that
    cannot be read its middle, so that no single number makes a mean.
    """
    said: dict[int, dict[str, float]] = {}
    for item, score in zip(items, scores, strict=True):
        index, _, name = Path(item.path).stem.partition("_")
        said.setdefault(int(index), {})[name] = float(np.clip(sum(SCALE) / 2 if score is None else score, *SCALE))
    return {name: [said[index][name] for index in sorted(said)] for name in said[0]}


def fall(said: Mapping[str, Sequence[float]], kind: str) -> np.ndarray:
    """By how much of the scale the score of each clip falls where it is spoilt, in the mean of the strengths."""
    spoilt = np.mean([said[f"{kind}_{level}"] for level in range(1, len(STRENGTHS) + 1)], axis=0)
    return (np.array(said[f"{WHOLE}_0"]) - spoilt) / (SCALE[1] - SCALE[0])


def order(said: Mapping[str, Sequence[float]], kind: str) -> np.ndarray:
    """How often the more severe of two versions of a clip gets the lower score, the clip as it is among them; equal
    scores count half, so 0.5 is chance.
    """
    levels = [said[f"{WHOLE}_0"], *(said[f"{kind}_{level}"] for level in range(1, len(STRENGTHS) + 1))]
    pairs = [np.sign(np.subtract(a, b)) for a, b in itertools.combinations(levels, 2)]
    return (np.mean(pairs, axis=0) + 1) / 2


STATISTICS: dict[str, Callable[[Mapping[str, Sequence[float]], str], np.ndarray]] = {"fall": fall, "order": order}


def of_untrained(statistic: str, said: Mapping[str, Sequence[float]]) -> np.ndarray:
    """A statistic of each clip, in the mean of what no temporal reward shows."""
    return np.mean([STATISTICS[statistic](said, kind) for kind in UNTRAINED], axis=0)


def untrained_change(
    statistic: str, before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]
) -> tuple[float, float, float]:
    """By how much the mean of a statistic rose on what no temporal reward shows, with the 95 % interval over the
    clips.
    """
    change = of_untrained(statistic, after) - of_untrained(statistic, before)
    return float(change.mean()), *bootstrap_interval(np.mean, change)
