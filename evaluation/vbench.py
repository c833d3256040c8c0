"""VBench's official aggregation: 16 dimensions to a quality, a semantic and a total score.

Constants: Vchitect/VBench, ``scripts/constant.py`` (Huang et al., CVPR 2024). Every score is in [0, 1].
"""

from dataclasses import dataclass

from videoduet.errors import InputError


@dataclass(frozen=True)
class Dimension:
    """How a dimension is normalised (``low`` and ``high`` become 0 and 1, without clipping) and weighted."""

    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0


QUALITY = {
    "subject_consistency": Dimension(low=0.1462),
    "background_consistency": Dimension(low=0.2615),
    "temporal_flickering": Dimension(low=0.6293),
    "motion_smoothness": Dimension(low=0.706, high=0.9975),
    "dynamic_degree": Dimension(weight=0.5),
    "aesthetic_quality": Dimension(),
    "imaging_quality": Dimension(),
}
SEMANTIC = {
    "object_class": Dimension(),
    "multiple_objects": Dimension(),
    "human_action": Dimension(),
    "color": Dimension(),
    "spatial_relationship": Dimension(),
    "scene": Dimension(high=0.8222),
    "appearance_style": Dimension(low=0.0009, high=0.2855),
    "temporal_style": Dimension(high=0.364),
    "overall_consistency": Dimension(high=0.364),
}


def _weighted_mean(scores: dict[str, float], dimensions: dict[str, Dimension]) -> float:
    weighted = [d.weight * (scores[name] - d.low) / (d.high - d.low) for name, d in dimensions.items()]
    return sum(weighted) / sum(d.weight for d in dimensions.values())


def total(quality: float, semantic: float) -> float:
    """VBench's total score: quality counts four times as much as semantic."""
    return (4 * quality + semantic) / 5


def aggregate(dimensions: dict[str, float]) -> dict[str, float]:
    """``quality``, ``semantic`` and ``total`` from all 16 raw dimensions (keys as ``subject_consistency``).

    Raises InputError where a dimension is missing or unknown: the official script would count a missing one as 0.
    """
    known = {**QUALITY, **SEMANTIC}
    missing, unknown = known.keys() - dimensions.keys(), dimensions.keys() - known.keys()
    if missing or unknown:
        kinds = {"missing": missing, "unknown": unknown}
        parts = [f"{kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names]
        raise InputError(f"VBench totals need exactly its 16 dimensions: {'; '.join(parts)}.")
    quality, semantic = _weighted_mean(dimensions, QUALITY), _weighted_mean(dimensions, SEMANTIC)
    return {"quality": quality, "semantic": semantic, "total": total(quality, semantic)}
