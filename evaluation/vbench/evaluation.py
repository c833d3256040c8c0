"""A whole evaluation: the videos drawn or found, checked, scored, summed up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.config import VBenchEvaluationConfig
from evaluation.vbench.drawing import draw, unread_of
from evaluation.vbench.environment import suite_path
from evaluation.vbench.results import read_base, save, summarise
from evaluation.vbench.scoring import DimensionResult, Scorer, readable, unscorable
from evaluation.vbench.suite import (
    VIDEOS_PER_PROMPT,
    SuiteRow,
    VideoFile,
    is_official,
    read_folder,
    read_suite,
    select,
    suite_videos,
)
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track


def evaluate(config: VBenchEvaluationConfig) -> dict[str, Any] | None:
    """What results.json keeps; None on all processes but the first. Draws what is missing, scores, writes the figures.

    Raises InputError where the suite, the base or the videos cannot be used.
    """
    base = read_base(config.base) if config.base else None
    names = list(config.dimensions or DIMENSIONS)
    suite = _suite(config, names)
    output = Path(config.output)
    if config.generator:
        folder = draw(config, suite_videos(suite, config.videos_per_prompt, config.flickering_videos))
    else:
        folder = Path(config.videos)
    if not processes().is_main_process:
        return None
    files, others = read_folder(folder)
    problems = [f"{len(others)} files of {folder} are no mp4 files, e.g. {others[0]}: passed over."] if others else []
    results, more = score_files(config, output / "scores", files, suite, names)
    complete = suite is not None and config.prompts_per_dimension is None and is_official(read_suite(suite_path()))
    complete &= config.videos_per_prompt == VIDEOS_PER_PROMPT
    summary = {
        "name": config.adapter or config.generator or config.videos,
        "base": base and base["name"],
        "problems": problems + (unread_of(output) if config.generator else []) + more,
        **summarise(results, complete=complete, resamples=config.resamples, base=base),
        "made_with": _made_with(config, results),
    }
    save(output, summary, results)
    return summary


def _suite(config: VBenchEvaluationConfig, names: Sequence[str]) -> list[SuiteRow] | None:
    if not (config.generator or config.official):
        return None
    return select(read_suite(suite_path()), names, config.prompts_per_dimension, config.subset_seed)


def score_files(
    config: VBenchEvaluationConfig,
    output: Path,
    files: Sequence[VideoFile],
    suite: list[SuiteRow] | None,
    names: Sequence[str],
) -> tuple[dict[str, DimensionResult], list[str]]:
    """Each dimension's result, and what the user should know beforehand: the videos are checked, then scored.

    ``suite`` are the rows that the videos belong to (None: they come from anywhere). Raises InputError where no video
    can be read.
    """
    good, bad = readable(track(files, "VBench: check the videos"), output / "checked.json")
    problems = [f"{path} was left out: {reason}" for path, reason in bad[:20]]
    if len(bad) > 20:
        problems.append(f"… and {len(bad) - 20} more videos that cannot be read.")
    if not good:
        raise InputError(f"None of {len(files)} videos can be read, e.g. {bad[0][1]}")
    if suite is not None:
        have = {(video.file.prompt, video.file.index) for video in good}
        wanted = suite_videos(suite, config.videos_per_prompt, config.videos_per_prompt)
        if absent := [video for video in wanted if (video.prompt, video.index) not in have]:
            problems.append(
                f"{len(absent)} of {len(wanted)} videos of the suite are missing or unreadable, e.g. {absent[0].name}; "
                "the scores are of those that are there."
            )
    scorer = Scorer(output, good, suite, videos_per_prompt=config.videos_per_prompt, trust_pickles=config.trust_pickles)
    possible = [name for name in names if unscorable(name, suite is not None) is None]
    console.print(f"VBench: scoring {', '.join(possible) or 'nothing'}; logs are in {output / 'work'}.", markup=False)
    return scorer.score(names, config.processes, torch.cuda.device_count()), problems


def _made_with(config: VBenchEvaluationConfig, results: dict[str, DimensionResult]) -> dict[str, str]:
    """What a reader needs to make the same figures again."""
    scored = [result.made_with for result in results.values() if result.made_with]
    versions = {name: version for found in scored for name, version in found["versions"].items()}
    asked = {
        "generator": config.generator, "adapter": config.adapter, "videos": config.videos,
        "seed": config.seed if config.generator else None, "sampler": config.sampler or None,
        "prompts of each dimension": config.prompts_per_dimension or "all",
        "videos of each prompt": config.videos_per_prompt,
        "device": ", ".join(sorted({found["device"] for found in scored})) or None,
    }  # fmt: skip
    return {name: str(value) for name, value in {**asked, **versions}.items() if value is not None}
