"""What a sibling run takes over of the videos that are drawn to be measured and scored: none is drawn again.

They lie in ``score/``, whichever phase drew them, so a phase that a sibling does anew may find them there.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from evaluation.vbench.suite import SuiteVideo
from pipelines.loop.config import RunConfig
from pipelines.loop.official_prompts import PLAN, scorable_videos
from pipelines.loop.prompts import read_run_prompts
from videoduet.records import Prompt
from videoduet.store import read_records

DRAWN = ("samples_{}_*", "latents_{}_*", "videos/{}_*")
JUDGED = "comparisons_second_judge_{}[._]*"
CHOOSING = ("prompts.held_out", "prompts.held_out_limit", "score.videos_per_prompt")
"""The fields that say which held-out videos there are; those that say how they are drawn touch earlier phases."""


def share_scored(
    kept: Path, sibling: Path, config: RunConfig, changed: Iterable[str], *, measured: int, aligned: int
) -> None:
    """Link into the score of a ``sibling``, whose ``config`` has those fields ``changed``, what it would draw again of
    the score that is ``kept``.

    The generators of so many ``aligned`` rounds are those of both. Of as many rounds as are ``measured`` the sibling
    takes the measurement too, and with it what the second judge said.
    """
    if measured or not (set(changed) & set(CHOOSING) or _others(kept, config)):
        _link(kept, sibling, range(aligned + 1), ["prompts.parquet", *DRAWN])
        _link(kept, sibling, range(1, measured + 1), [JUDGED])
    official = kept / "official"
    if official.is_dir() and _same_plan(official, config):
        _link(official, sibling / "official", range(aligned + 1), [PLAN, *DRAWN])


def _others(kept: Path, config: RunConfig) -> bool:
    """Whether the held-out prompts are others by now: their file may have changed."""
    file = kept / "prompts.parquet"
    return not file.exists() or read_records(Prompt, file) != read_run_prompts(config.prompts).held_out


def _same_plan(official: Path, config: RunConfig) -> bool:
    """Whether the official videos are those that the sibling would draw: of the dimensions that it asks for, and that
    can be scored by now.
    """
    vbench, plan = config.score.vbench, official / PLAN
    if vbench.suite != "official" or not plan.exists():
        return False
    return read_records(SuiteVideo, plan) == scorable_videos(vbench)


def _link(kept: Path, sibling: Path, versions: Iterable[int], patterns: Iterable[str]) -> None:
    names = [pattern.format(f"G_{number}") for number in versions for pattern in patterns]
    for source in sorted({file for name in names for file in kept.glob(name)}):
        target = sibling / source.relative_to(kept)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
