"""How sure a VBench score is: 95 % intervals by resampling prompts.

Prompts, not videos, are drawn with replacement: videos of one prompt resemble each other, and another suite would have
other prompts. Dimensions that share their prompts share each draw, so a total's interval counts their company.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from evaluation.vbench.aggregation import QUALITY, SEMANTIC, total, weighted_mean

Key = TypeVar("Key", bound=Hashable)
CHUNK = 100


@dataclass(frozen=True)
class ScoredVideo:
    """A video's result in one dimension, in [0, 1], and its weight in the dimension's mean (frames, or 1)."""

    prompt: str
    index: int
    result: float
    weight: float


def mean(videos: Iterable[ScoredVideo]) -> float:
    """The dimension's score: the weighted mean over its videos; NaN where there is none."""
    sums = np.sum([(video.weight * video.result, video.weight) for video in videos], axis=0)
    return float(sums[0] / sums[1]) if np.ndim(sums) and sums[1] else float("nan")


def replicates(scored: Mapping[Key, Sequence[ScoredVideo]], number: int, seed: int = 0) -> dict[Key, np.ndarray]:
    """``number`` bootstrap replicates (float64) of each key's mean, drawn together.

    Prompts are drawn within the groups that share their dimensions, as the suite is made of such groups. Memory does
    not grow with ``number`` times the prompts. A replicate without any weight is NaN.
    """
    keys = list(scored)
    sums: dict[str, np.ndarray] = {}
    for column, key in enumerate(keys):
        for video in scored[key]:
            cell = sums.setdefault(video.prompt, np.zeros((2, len(keys))))
            cell[:, column] += (video.weight * video.result, video.weight)
    groups: dict[bytes, list[np.ndarray]] = {}
    for prompt in sorted(sums):
        groups.setdefault((sums[prompt][1] > 0).tobytes(), []).append(sums[prompt])
    random = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    for start in range(0, number, CHUNK):
        size = min(CHUNK, number - start)
        drawn = np.zeros((size, 2, len(keys)))
        for cells in groups.values():
            counts = random.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size)
            drawn += np.tensordot(counts, np.stack(cells), axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append(drawn[:, 0] / drawn[:, 1])
    columns = np.concatenate(parts) if parts else np.zeros((0, len(keys)))
    return {key: columns[:, column] for column, key in enumerate(keys)}


def total_replicates(dimensions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Replicates of ``quality``, ``semantic`` and ``total`` from those of the dimensions, where all are there."""
    found: dict[str, Any] = {}
    for name, group in (("quality", QUALITY), ("semantic", SEMANTIC)):
        if group.keys() <= dimensions.keys():
            found[name] = weighted_mean(dimensions, group)
    if len(found) == 2:
        found["total"] = total(found["quality"], found["semantic"])
    return found
