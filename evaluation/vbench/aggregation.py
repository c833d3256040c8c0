"""VBench's official aggregation: 16 dimensions to a quality, a semantic and a total score.

Constants and rules: Vchitect/VBench, ``scripts/constant.py`` and ``scripts/cal_final_score.py`` (Huang et al., CVPR
2024). Raw scores are in [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from videoduet.errors import InputError


@dataclass(frozen=True)
class DimensionScale:
    """How a dimension is normalised (``low`` and ``high`` become 0 and 1, without clipping) and weighted."""

    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0


QUALITY = {
    "subject_consistency": DimensionScale(low=0.1462),
    "background_consistency": DimensionScale(low=0.2615),
    "temporal_flickering": DimensionScale(low=0.6293),
    "motion_smoothness": DimensionScale(low=0.706, high=0.9975),
    "dynamic_degree": DimensionScale(weight=0.5),
    "aesthetic_quality": DimensionScale(),
    "imaging_quality": DimensionScale(),
}
SEMANTIC = {
    "object_class": DimensionScale(),
    "multiple_objects": DimensionScale(),
    "human_action": DimensionScale(),
    "color": DimensionScale(),
    "spatial_relationship": DimensionScale(),
    "scene": DimensionScale(high=0.8222),
    "appearance_style": DimensionScale(low=0.0009, high=0.2855),
    "temporal_style": DimensionScale(high=0.364),
    "overall_consistency": DimensionScale(high=0.364),
}
DIMENSIONS = {**QUALITY, **SEMANTIC}
"""All 16, in the order of the official tables."""


def normalise(name: str, raw: Any) -> Any:
    """``(raw - low) / (high - low)`` of a number or an array: mostly in [0, 1], but never clipped."""
    dimension = DIMENSIONS[name]
    return (raw - dimension.low) / (dimension.high - dimension.low)


def weighted_mean(scores: Mapping[str, Any], dimensions: Mapping[str, DimensionScale]) -> Any:
    """Weighted mean of normalised ``dimensions``; ``scores`` are raw, numbers or arrays alike."""
    weighted = [dimension.weight * normalise(name, scores[name]) for name, dimension in dimensions.items()]
    return sum(weighted) / sum(dimension.weight for dimension in dimensions.values())


def total(quality: float, semantic: float) -> float:
    """VBench's total score: quality counts four times as much as semantic."""
    return (4 * quality + semantic) / 5


def aggregate(dimensions: Mapping[str, float]) -> dict[str, float]:
    """``quality``, ``semantic`` and ``total`` from all 16 raw dimensions in [0, 1] (keys as ``subject_consistency``).

    Quality is the weighted mean of seven normalised dimensions, in which dynamic degree counts half; semantic is the
    mean of nine. Raises InputError where a dimension is missing (the official script would count it as 0), unknown, not
    a finite number, or above 1.
    """
    missing, unknown = DIMENSIONS.keys() - dimensions.keys(), dimensions.keys() - DIMENSIONS.keys()
    if missing or unknown:
        kinds = {"missing": missing, "unknown": unknown}
        parts = [f"{kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names]
        raise InputError(f"VBench totals need exactly its 16 dimensions: {'; '.join(parts)}.")
    _check(dimensions)
    quality, semantic = weighted_mean(dimensions, QUALITY), weighted_mean(dimensions, SEMANTIC)
    return {"quality": quality, "semantic": semantic, "total": total(quality, semantic)}


def _check(dimensions: Mapping[str, float]) -> None:
    for name, raw in dimensions.items():
        if not math.isfinite(raw) or raw > 1 + 1e-9:
            raise InputError(f"VBench's {name} is {raw}, which is no raw score in [0, 1]; divide percentages by 100.")
