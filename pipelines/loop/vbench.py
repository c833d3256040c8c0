"""VBench in the loop: dimensions of the held-out videos of the base and every round, and the alarm of still videos."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evaluation.vbench.scoring import DimensionResult, Scorer, readable, unscorable
from evaluation.vbench.statistics import ScoredVideo, interval, mean, replicates
from evaluation.vbench.suite import VideoFile
from generators.sampling import read_samples
from pipelines.loop.run import Run
from videoduet.errors import InputError
from videoduet.progress import track

RESAMPLES = 1000
MOST_STILLED = 6
Scores = Mapping[str, Mapping[str, DimensionResult]]


def score_vbench(run: Run, versions: Sequence[str]) -> dict[str, Any]:
    """What the score's summary keeps of VBench.

    ``available``, and where nothing can be scored the ``reason``; else for each version its raw scores by dimension,
    ``against_base`` (sentences), ``not_scored`` (reasons by dimension), ``alarm`` (a sentence or None) and ``stilled``:
    the videos that moved in the base and stand still in the version of the alarm (the last one where there is none),
    those that lost most first.
    """
    wanted = run.config.score.vbench.dimensions
    if not wanted:
        return {"available": False, "reason": "it is turned off (score.vbench.dimensions is empty)."}
    reasons = {name: reason for name in wanted if (reason := unscorable(name, official=False))}
    possible = [name for name in wanted if name not in reasons]
    scores: Scores = {}
    if possible:
        scores = {version: _score(run, version, possible) for version in track(versions, "score: VBench")}
    reasons |= {name: r.not_scored for found in scores.values() for name, r in found.items() if r.not_scored}
    not_scored = [f"{name}: {reason}" for name, reason in reasons.items()]
    raw = {
        version: {name: result.raw for name, result in found.items() if not result.not_scored}
        for version, found in scores.items()
    }
    if not any(raw.values()):
        return {"available": False, "reason": f"{'; '.join(not_scored)}."}
    base, later = versions[0], versions[1:]
    alarm = alarm_of(scores, base, later, run.config.score.vbench.dynamic_degree_tolerance)
    shown = worst_fall(scores, base, later)[0] if alarm else later[-1]
    return {
        "available": True,
        **raw,
        "against_base": [text for version in later for text in _against_base(scores, base, version)],
        "not_scored": not_scored,
        "alarm": alarm,
        "stilled": [_case(run, base, shown, *key) for key in stilled(scores, base, shown)[:MOST_STILLED]],
    }


def stop_if_still(run: Run, found: Mapping[str, Any]) -> None:
    """Raises InputError where the alarm is raised and the config says to stop on it."""
    if found.get("alarm") and run.config.score.vbench.when_still == "stop":
        raise InputError(
            f"Stopped before the export: {found['alarm']} Look at the videos (python -m pipelines.report "
            f"{run.directory.root}); to go on all the same, add --score.vbench.when_still warn."
        )


def _score(run: Run, version: str, dimensions: Sequence[str]) -> dict[str, DimensionResult]:
    output, texts = run.directory.phase("score"), {prompt.id: prompt.text for prompt in run.held_out_prompts}
    quarantined = run.directory.quarantined()
    files = [
        VideoFile(run.directory.root / sample.video_path, texts[sample.prompt_id], sample.index)
        for sample in read_samples(output, version)
        if sample.video_path not in quarantined
    ]
    good, _ = readable(files, output / "vbench" / version / "checked.json")
    scorer = Scorer(output / "vbench" / version, good)
    return scorer.score(dimensions, run.config.score.vbench.processes, torch.cuda.device_count())


def _pairs(scores: Scores, name: str, base: str, version: str) -> list[tuple[ScoredVideo, ScoredVideo]]:
    """The videos of both versions, of the same prompt and noise, that one dimension scored."""
    if any(name not in scores[side] or scores[side][name].not_scored for side in (base, version)):
        return []
    before = {(video.prompt, video.index): video for video in scores[base][name].videos}
    now = {(video.prompt, video.index): video for video in scores[version][name].videos}
    return [(before[key], now[key]) for key in before if key in now]


def _against_base(scores: Scores, base: str, version: str) -> list[str]:
    sentences = []
    for name in scores[version]:
        pairs = _pairs(scores, name, base, version)
        if not pairs:
            continue
        sides = {"base": [before for before, _ in pairs], "now": [now for _, now in pairs]}
        drawn = replicates(sides, RESAMPLES)
        gain, ends = mean(sides["now"]) - mean(sides["base"]), interval(drawn["now"] - drawn["base"])
        span = f" (95 %: {100 * ends[0]:+.2f} to {100 * ends[1]:+.2f})" if ends else ""
        sentences.append(f"{version}, {name.replace('_', ' ')}: {100 * gain:+.2f} points against the base{span}")
    return sentences


def worst_fall(scores: Scores, base: str, later: Sequence[str]) -> tuple[str, float, float] | None:
    """The version whose dynamic degree fell most, with the degree before and now; None where it was not scored."""
    falls = []
    for version in later:
        if pairs := _pairs(scores, "dynamic_degree", base, version):
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
        for before, now in _pairs(scores, "dynamic_degree", base, version)
        if before.result > now.result
    ]
    pairs = _pairs(scores, "temporal_flickering", base, version)
    calmer = {(now.prompt, now.index): now.result - before.result for before, now in pairs}
    return sorted(lost, key=lambda key: (-calmer.get(key, 0.0), key))


def _case(run: Run, base: str, version: str, prompt: str, index: int) -> dict[str, Any]:
    """One video in the base and in a later version, as the report shows it."""
    prompt_id = next(known.id for known in run.held_out_prompts if known.text == prompt)
    paths = {
        side: sample.video_path
        for side, name in (("base", base), ("now", version))
        for sample in read_samples(run.directory.phase("score"), name)
        if (sample.prompt_id, sample.index) == (prompt_id, index)
    }
    return {"prompt": prompt, "prompt_id": prompt_id, "index": index, "version": version, **paths}
