"""Versions of a generator on the same prompts and noise: VBench of each, against the base, and the alarm of still
videos.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.vbench.scoring import DimensionResult, Scorer, readable, unscorable
from evaluation.vbench.statistics import ScoredVideo, mean, replicates
from evaluation.vbench.suite import VideoFile
from videoduet.intervals import percentile_interval
from videoduet.progress import track
from videoduet.records import stable_id

RESAMPLES = 1000
MOST_STILLED = 6
Scores = Mapping[str, Mapping[str, DimensionResult]]
"""By version, and there by dimension."""


def compare_versions(
    files: Mapping[str, Sequence[VideoFile]],
    dimensions: Sequence[str],
    output: Path,
    *,
    root: Path,
    tolerance: float,
    processes: int = 1,
    gpus: int = 0,
) -> dict[str, Any]:
    """What a run's summary keeps of VBench.

    ``available``, and where nothing can be scored the ``reason``; else for each version its raw scores by dimension,
    ``against_base`` (sentences), ``not_scored`` (reasons by dimension), ``alarm`` (a sentence or None) and ``stilled``:
    the videos that moved in the base and stand still in the version of the alarm (the last one where there is none),
    those that lost most first.

    ``files`` are each version's videos, the base's first; what is found is kept below ``output``, a folder a version,
    where the same call goes on after a stop. Paths in the summary are relative to ``root``. Beyond a fall of dynamic
    degree by ``tolerance`` (in [0, 1]) the alarm is raised. ``processes`` dimensions are scored at a time, spread over
    ``gpus`` devices (0: those that are visible).
    """
    reasons = {name: reason for name in dimensions if (reason := unscorable(name, official=False))}
    possible = [name for name in dimensions if name not in reasons]
    scores: Scores = {}
    if possible:
        scores = {
            version: score_version(files[version], possible, output / version, processes, gpus)
            for version in track(list(files), "score: VBench")
        }
    return told(files, scores, reasons, root=root, tolerance=tolerance)


def told(
    files: Mapping[str, Sequence[VideoFile]], scores: Scores, reasons: Mapping[str, str], *, root: Path,
    tolerance: float,
) -> dict[str, Any]:  # fmt: skip
    """What :func:`compare_versions` returns, of what was scored; ``reasons`` say why others were not tried."""
    reasons = dict(reasons)
    reasons |= {name: r.not_scored for found in scores.values() for name, r in found.items() if r.not_scored}
    not_scored = [f"{name}: {reason}" for name, reason in reasons.items()]
    raw = {
        version: {name: result.raw for name, result in found.items() if not result.not_scored}
        for version, found in scores.items()
    }
    if not any(raw.values()):
        return {"available": False, "reason": f"{'; '.join(not_scored)}."}
    base, *later = files
    alarm, worst = alarm_of(scores, base, later, tolerance), worst_fall(scores, base, later)
    shown = worst[0] if alarm and worst else later[-1]
    cases = stilled(scores, base, shown)[:MOST_STILLED]
    return {
        "available": True,
        **raw,
        "against_base": [text for version in later for text in against_base(scores, base, version)],
        "not_scored": not_scored,
        "alarm": alarm,
        "stilled": [_case(files, base, shown, *key, root) for key in cases],
    }


def score_version(
    files: Sequence[VideoFile], dimensions: Sequence[str], output: Path, processes: int = 1, gpus: int = 0
) -> dict[str, DimensionResult]:
    """Each dimension's result on one version's videos; those that cannot be decoded are left out."""
    good, _ = readable(files, output / "checked.json")
    return Scorer(output, good).score(dimensions, processes, gpus)


def paired(scores: Scores, name: str, base: str, version: str) -> list[tuple[ScoredVideo, ScoredVideo]]:
    """The videos of the base and of ``version``, of the same prompt and noise, that the dimension ``name`` scored in
    both.
    """
    if any(name not in scores[side] or scores[side][name].not_scored for side in (base, version)):
        return []
    before = {(video.prompt, video.index): video for video in scores[base][name].videos}
    now = {(video.prompt, video.index): video for video in scores[version][name].videos}
    return [(before[key], now[key]) for key in before if key in now]


def against_base(scores: Scores, base: str, version: str) -> list[str]:
    """A sentence for each dimension: how many points ``version`` gained on the base, with a 95 % interval."""
    sentences: list[str] = []
    for name in scores[version]:
        pairs = paired(scores, name, base, version)
        if not pairs:
            continue
        sides = {"base": [before for before, _ in pairs], "now": [now for _, now in pairs]}
        drawn = replicates(sides, RESAMPLES)
        gain, ends = mean(sides["now"]) - mean(sides["base"]), percentile_interval(drawn["now"] - drawn["base"])
        span = f" (95 %: {100 * ends[0]:+.2f} to {100 * ends[1]:+.2f})" if ends else ""
        sentences.append(f"{version}, {name.replace('_', ' ')}: {100 * gain:+.2f} points against the base{span}")
    return sentences


def worst_fall(scores: Scores, base: str, later: Sequence[str]) -> tuple[str, float, float] | None:
    """The version whose dynamic degree fell most, with the degree before and now; None where it was not scored."""
    falls: list[tuple[str, float, float]] = []
    for version in later:
        if pairs := paired(scores, "dynamic_degree", base, version):
            falls.append((version, mean(before for before, _ in pairs), mean(now for _, now in pairs)))
    return max(falls, key=lambda fall: fall[1] - fall[2], default=None)


def alarm_of(scores: Scores, base: str, later: Sequence[str], tolerance: float) -> str | None:
    """The sentence about the version whose dynamic degree fell most, where that is more than ``tolerance``."""
    worst = worst_fall(scores, base, later)
    if worst is None or worst[1] - worst[2] <= tolerance:
        return None
    version, before, now = worst
    return (
        f"VBench's dynamic degree fell from {100 * before:.0f} % of videos in {base} to {100 * now:.0f} % in "
        f"{version}: the generator may be learning to stand still."
    )


def stilled(scores: Scores, base: str, version: str) -> list[tuple[str, int]]:
    """Prompt and index of the videos that move in the base and stand still in ``version``.

    First come those whose neighbouring frames came closest to each other (by temporal flickering, where it is scored):
    they moved most before.
    """
    lost = [
        (now.prompt, now.index)
        for before, now in paired(scores, "dynamic_degree", base, version)
        if before.result > now.result
    ]
    pairs = paired(scores, "temporal_flickering", base, version)
    calmer = {(now.prompt, now.index): now.result - before.result for before, now in pairs}
    return sorted(lost, key=lambda key: (-calmer.get(key, 0.0), key))


def _case(
    files: Mapping[str, Sequence[VideoFile]], base: str, version: str, prompt: str, index: int, root: Path
) -> dict[str, Any]:
    """One video in the base and in a later version, as the report shows it."""
    paths = {
        side: os.path.relpath(file.path, root)
        for side, name in (("base", base), ("now", version))
        for file in files[name]
        if (file.prompt, file.index) == (prompt, index)
    }
    return {"prompt": prompt, "prompt_id": stable_id(prompt), "index": index, "version": version, **paths}
