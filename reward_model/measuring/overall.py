"""VQAThinker's "Overall": what a judge reaches on several benchmarks, in one number."""

from collections.abc import Mapping, Sequence
from typing import Any

from reward_model.measuring.published import SCORES

Benchmark = tuple[str, str]
"""A benchmark's name and its split."""

GROUPS: dict[str, tuple[Benchmark, ...]] = {
    "in-domain": (
        ("lsvq", "test"), ("lsvq", "test_1080p"), ("konvid_1k", "all"), ("live_vqc", "all"), ("youtube_ugc", "all"),
    ),
    "out of distribution": (
        ("live_yt_gaming", "all"), ("cgvds", "all"), ("live_yt_hfr", "all"), ("waterloo_ivc_4k", "all"),
        ("vdpve", "all"),
    ),
}  # fmt: skip
"""What VQAThinker (Cao et al. 2025, table 1) takes together."""
VIDEOS: dict[Benchmark, int] = dict(
    zip(
        (benchmark for group in GROUPS.values() for benchmark in group),
        (7182, 3573, 1200, 585, 1020, 600, 357, 480, 1200, 839),
        strict=True,
    )
)
"""How many videos the table says each has."""


def weighted_overall(values: Mapping[Benchmark, float], videos: Mapping[Benchmark, int]) -> float:
    """The mean of ``values``, each weighted by its number of ``videos`` (VQAThinker, below table 1)."""
    return sum(value * videos[name] for name, value in values.items()) / sum(videos[name] for name in values)


def overall_of(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """VQAThinker's Overall by group, of what :func:`reward_model.measuring.benchmark.evaluate` found on each benchmark.

    A group has ``SRCC``, ``PLCC``, ``n`` (videos whose answer could be read, the weights) and the ``published`` rows,
    or ``missing``, the benchmarks that it lacks: a mean of fewer is another number. Groups nothing is known of are left
    out; of two results on one benchmark the last counts.
    """
    known = {(one["benchmark"], one["split"]): one["dimensions"].get("overall", {}) for one in results}
    known = {name: measured for name, measured in known.items() if "SRCC" in measured}
    found: dict[str, dict[str, Any]] = {}
    for group, names in GROUPS.items():
        missing = [" ".join(name) for name in names if name not in known]
        if len(missing) == len(names):
            continue
        if missing:
            found[group] = {"missing": missing}
            continue
        videos = {name: int(known[name]["n"]) for name in names}
        found[group] = {
            metric: weighted_overall({name: known[name][metric]["value"] for name in names}, videos)
            for metric in ("SRCC", "PLCC")
        } | {"n": sum(videos.values()), "published": published_overall(group)}
    return found


def published_overall(group: str) -> list[dict[str, str | float]]:
    """The published rows of a group, of the methods that have one on all of its benchmarks."""
    rows = [{method: scores for method, *scores in SCORES[name]} for name in GROUPS[group]]
    weights = {name: VIDEOS[name] for name in GROUPS[group]}
    return [
        {"method": method}
        | {
            metric: weighted_overall(
                {name: of[method][place] for name, of in zip(GROUPS[group], rows, strict=True)}, weights
            )
            for place, metric in enumerate(("SRCC", "PLCC"))
        }
        for method in rows[0]
        if all(method in of for of in rows)
    ]
