"""Scores video files with the real vbench package, one process for each dimension, and guards against its silence.

Checked before: the environment, the weights, that every wanted video is there and can be decoded. A dimension that
cannot be scored is *not scored* with a reason, never 0. Checked after: that every video has a result, and that the
package's average is the mean of these. One process scores a dimension, since the package's averages over several
differ from those over one; dimensions run beside each other.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.environment import SETUP, run_worker, tier_for
from evaluation.vbench.statistics import ScoredVideo, mean
from evaluation.vbench.suite import NEEDS_LABELS, VIDEOS_PER_PROMPT, SuiteRow, VideoFile
from evaluation.vbench.weights import STATIC_FILTER, WEIGHTS, missing_weights, weights_dir
from videoduet.errors import in_words
from videoduet.records import stable_id
from videoduet.store import read_json, write_json
from videoduet.video import count_frames

MIN_FRAMES = {"motion_smoothness": 3, "dynamic_degree": 2}
OWN_MIN_FRAMES = 2
UNFILTERED = "the official filter of moving videos was not applied"


@dataclass(frozen=True)
class Checked:
    """A video that can be decoded: its file, its number of frames, and what tells it from another of that name."""

    file: VideoFile
    frames: int
    stamp: str


@dataclass
class DimensionResult:
    """One dimension: its raw score in [0, 1] and the videos behind it, or why it was not scored.

    ``gaps`` say why it is not the official number, ``notes`` what else its reader should know.
    """

    name: str
    raw: float | None = None
    videos: list[ScoredVideo] = field(default_factory=list)
    not_scored: str | None = None
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    made_with: dict[str, Any] = field(default_factory=dict)


def readable(files: Iterable[VideoFile], cache: Path) -> tuple[list[Checked], list[tuple[Path, str]]]:
    """The videos that can be decoded, and those that cannot, with the reason. ``cache`` (a JSON file) remembers."""
    known: dict[str, Any] = read_json(cache) if cache.is_file() else {}
    good: list[Checked] = []
    bad: list[tuple[Path, str]] = []
    seen: dict[str, list[str | int]] = {}
    for file in files:
        path = file.path.absolute()
        try:
            status = path.stat()
            stamp = f"{status.st_size}-{status.st_mtime_ns}"
            before = known.get(str(path))
            frames = before[1] if before and before[0] == stamp else count_frames(path)
        # Whatever is wrong with one file, the others are scored.
        except Exception as error:
            bad.append((file.path, in_words(error)))
            continue
        seen[str(path)] = [stamp, frames]
        good.append(Checked(replace(file, path=path), frames, stamp))
    if seen != known:
        write_json(cache, seen)
    return good, bad


def unscorable(dimension: str, official: bool) -> str | None:
    """Why ``dimension`` cannot be scored here, or None: no environment, no weights, a prompt without labels."""
    if dimension in NEEDS_LABELS and not official:
        return "it needs what the official suite says of its prompts, so it is for videos of that suite only"
    tier, reason = tier_for(dimension)
    if tier is None:
        return reason
    if absent := missing_weights(WEIGHTS[dimension], weights_dir()):
        lacking = ", ".join(f"{item.path} ({item.size()})" for item in absent)
        return f"its weights are not in {weights_dir()}: {lacking}; for where to get them run: {SETUP} --list-weights"
    return None


class Scorer:
    """Scores dimensions of one set of videos, and keeps what it found in ``output``, where it goes on after a stop.

    ``suite`` are the rows of the official suite where these are its videos (``videos_per_prompt`` of each are scored),
    None where they come from anywhere. ``trust_pickles`` lets weights files hold more than tensors, which can run code.
    """

    def __init__(
        self,
        output: Path,
        videos: Sequence[Checked],
        suite: Sequence[SuiteRow] | None = None,
        *,
        videos_per_prompt: int = VIDEOS_PER_PROMPT,
        trust_pickles: bool = False,
    ) -> None:
        self.output, self.videos, self.suite = output, list(videos), suite
        self.videos_per_prompt, self.trust_pickles = videos_per_prompt, trust_pickles
        self._by_prompt: dict[str, list[Checked]] = {}
        for video in sorted(self.videos, key=lambda video: (video.file.prompt, video.file.index, video.file.path)):
            self._by_prompt.setdefault(video.file.prompt, []).append(video)

    def score(
        self,
        dimensions: Sequence[str],
        processes: int = 1,
        gpus: int = 0,
        done: Callable[[str], None] = lambda name: None,
    ) -> dict[str, DimensionResult]:
        """The result of each of ``dimensions``, scored ``processes`` at a time, spread over ``gpus`` devices (0: those
        that are visible); ``done`` is called with the name of each.
        """
        with ThreadPoolExecutor(max_workers=max(1, processes)) as pool:
            jobs = {
                name: pool.submit(self._score, name, number % gpus if gpus else None)
                for number, name in enumerate(dimensions)
            }
            results: dict[str, DimensionResult] = {}
            for name, job in jobs.items():
                results[name] = job.result()
                done(name)
        return results

    def _score(self, name: str, gpu: int | None) -> DimensionResult:
        result = DimensionResult(name, not_scored=unscorable(name, self.suite is not None))
        if result.not_scored:
            return result
        chosen = self._chosen(name, result, gpu)
        short = [video for row in chosen for video in row[1] if video.frames < MIN_FRAMES.get(name, OWN_MIN_FRAMES)]
        if short:
            least = MIN_FRAMES.get(name, OWN_MIN_FRAMES)
            result.gaps.append(
                f"{_videos(len(short))} left out, of fewer than {least} frames, e.g. {short[0].file.path}"
            )
            chosen = [(row, [video for video in videos if video not in short]) for row, videos in chosen]
        chosen = [(row, videos) for row, videos in chosen if videos]
        if not chosen:
            result.not_scored = "; ".join(["there is no video to score it on", *result.gaps, *result.notes])
            return result
        answer = self._answer(name, chosen, gpu)
        if "error" in answer:
            result.not_scored = f"vbench failed: {answer['error']}"
            return result
        self._read(answer, [video for _, videos in chosen for video in videos], result)
        return result

    def _chosen(self, name: str, result: DimensionResult, gpu: int | None) -> list[tuple[SuiteRow, list[Checked]]]:
        """The prompts of a dimension with the videos to score, as the official rule or the folder has them."""
        if self.suite is None:
            return [(SuiteRow(prompt=prompt, dimensions=(name,)), videos) for prompt, videos in self._by_prompt.items()]
        rows = [row for row in self.suite if name in row.dimensions]
        if name == "temporal_flickering":
            candidates = [(row, self._by_prompt.get(row.prompt, [])) for row in rows]
            if not missing_weights(STATIC_FILTER, weights_dir()):
                return self._standing_still(candidates, result, gpu)
            lacking = STATIC_FILTER[0].path
            result.gaps.append(f"{UNFILTERED}, since {lacking} is not in {weights_dir()}: of each prompt the first "
                                f"{self.videos_per_prompt} videos count")  # fmt: skip
        chosen = [
            (row, [v for v in self._by_prompt.get(row.prompt, []) if v.file.index < self.videos_per_prompt])
            for row in rows
        ]
        lacking = sum(self.videos_per_prompt - len(videos) for _, videos in chosen)
        if lacking:
            result.gaps.append(f"{_videos(lacking)} of {self.videos_per_prompt * len(rows)} missing or unreadable")
        return chosen

    def _standing_still(
        self, candidates: list[tuple[SuiteRow, list[Checked]]], result: DimensionResult, gpu: int | None
    ) -> list[tuple[SuiteRow, list[Checked]]]:
        # In the order of file names, as the official filter takes them: -0, -1, -10, -11, …, -2.
        candidates = [(row, sorted(videos, key=lambda video: str(video.file.index))) for row, videos in candidates]
        job = {"kind": "static", "wanted": self.videos_per_prompt, "rows": _rows("temporal_flickering", candidates)}
        answer = self._remembered("static_filter", job, candidates, "dynamic_degree", gpu)
        if "error" in answer:
            result.gaps.append(f"{UNFILTERED}, since it failed: {answer['error']}")
            return [(row, videos[: self.videos_per_prompt]) for row, videos in candidates]
        kept = [
            (row, [v for v in videos if str(v.file.path) in set(answer["static"][row.prompt])])
            for row, videos in candidates
        ]
        few = sum(len(videos) < self.videos_per_prompt for _, videos in kept)
        if few:
            result.notes.append(f"{few} of {len(kept)} prompts have fewer than {self.videos_per_prompt} still videos")
        return kept

    def _answer(self, name: str, chosen: list[tuple[SuiteRow, list[Checked]]], gpu: int | None) -> dict[str, Any]:
        trust = self.trust_pickles
        job = {"kind": "score", "dimension": name, "rows": _rows(name, chosen), "trust_pickles": trust}
        return self._remembered(name, job, chosen, name, gpu)

    def _remembered(
        self,
        name: str,
        job: dict[str, Any],
        chosen: list[tuple[SuiteRow, list[Checked]]],
        dimension: str,
        gpu: int | None,
    ) -> dict[str, Any]:
        """The answer of the worker in the environment that ``dimension`` needs, from before where the same files were
        scored the same way.
        """
        tier = tier_for(dimension)[0] or "standard"
        stamps = [f"{video.file.path} {video.stamp}" for _, videos in chosen for video in videos]
        weights = [weights_dir() / item.path for item in WEIGHTS.get(name, STATIC_FILTER)]
        marks = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
        key, file = stable_id(tier, json.dumps(job, sort_keys=True), stamps, marks), self.output / f"{name}.json"
        if file.is_file() and (before := read_json(file)).get("key") == key:
            return before
        answer = run_worker(tier, job, self.output / "work" / name, gpu)
        if "error" not in answer:
            write_json(file, {"key": key, "tier": tier, **answer})
        return answer

    def _read(self, answer: Mapping[str, Any], asked: Sequence[Checked], result: DimensionResult) -> None:
        by_path = {str(video.file.path): video for video in asked}
        scale = 100.0 if result.name == "imaging_quality" else 1.0
        for row in answer["videos"]:
            video = by_path[row["video_path"]]
            # It averages over frames in some dimensions: subject_consistency over pairs, of which it gives no count.
            weight = video.frames - 1 if result.name == "subject_consistency" else row["weight"]
            one = ScoredVideo(video.file.prompt, video.file.index, float(row["video_results"]) / scale, weight)
            result.videos.append(one)
        result.made_with = {name: answer[name] for name in ("versions", "device")}
        skipped = len(asked) - len(result.videos)
        if skipped and result.name != "color":
            result.gaps.append(f"vbench silently left out {_videos(skipped)} of {len(asked)}")
        if answer["score"] is None or not math.isfinite(answer["score"]):
            result.not_scored = "vbench's own average is not a number"
            return
        result.raw = float(answer["score"])
        if abs(result.raw - mean(result.videos)) > 1e-5:
            result.notes.append("vbench's average is not the mean of its videos; its intervals are rough")


def _rows(name: str, chosen: Iterable[tuple[SuiteRow, list[Checked]]]) -> list[dict[str, Any]]:
    """The package's own form of a list of videos."""
    return [
        {
            "prompt_en": row.prompt,
            "dimension": [name],
            "video_list": [str(video.file.path) for video in videos],
            "auxiliary_info": row.auxiliary_info,
        }
        for row, videos in chosen
    ]


def _videos(number: int) -> str:
    return f"{number} video{'s' * (number != 1)}"


def publishable(results: Mapping[str, DimensionResult], complete: bool) -> str | None:
    """Why there is no official total, or None: it needs all 16 dimensions of the whole suite, with nothing left out."""
    absent = [name for name in DIMENSIONS if name not in results or results[name].not_scored]
    if absent:
        return f"an official total needs all 16 dimensions; not scored: {', '.join(absent)}"
    if not complete:
        return "an official total needs every prompt of the official suite and five videos of each"
    gaps = [name for name, result in results.items() if result.gaps]
    if gaps:
        return f"an official total needs every video of every prompt; see {', '.join(gaps)}"
    return None
