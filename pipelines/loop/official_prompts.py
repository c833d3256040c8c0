"""Which of VBench's official prompts a run draws, and how many videos that are."""

from collections.abc import Sequence

from evaluation.vbench.environment import suite_path
from evaluation.vbench.scoring import unscorable
from evaluation.vbench.suite import (
    OFFICIAL_PROMPTS,
    OFFICIAL_TEXTS,
    SuiteRow,
    SuiteVideo,
    read_suite,
    select,
    suite_videos,
)
from pipelines.loop.score_config import VBenchConfig
from videoduet.errors import InputError

PLAN = "plan.parquet"
"""Where what is drawn is written down, beside the videos."""


def wanted_videos(config: VBenchConfig, rows: Sequence[SuiteRow], dimensions: Sequence[str]) -> list[SuiteVideo]:
    """The videos of the suite's ``rows`` that ``dimensions`` want, as the config limits them."""
    chosen = select(rows, dimensions, config.prompts_per_dimension)
    return suite_videos(chosen, config.videos_per_prompt, config.flickering_videos)


def scorable_videos(config: VBenchConfig) -> list[SuiteVideo]:
    """The official videos of the dimensions that are asked for and can be scored here."""
    possible = [name for name in config.names if unscorable(name, official=True) is None]
    return wanted_videos(config, read_suite(suite_path()), possible) if possible else []


def reckoned_videos(config: VBenchConfig, rounds: int) -> int:
    """Official videos that a whole run draws, at most: of all dimensions asked for, whether or not weights are there.

    Where the suite is not set up, as many as all its prompts are.
    """
    if config.suite != "official" or not config.names:
        return 0
    if (path := suite_path()).is_file():
        each = len(wanted_videos(config, read_suite(path), config.names))
    else:
        still = OFFICIAL_PROMPTS["temporal_flickering"]
        each = (OFFICIAL_TEXTS - still) * config.videos_per_prompt + still * config.flickering_videos
    return each * len(config.versions(rounds))


def check_suite(config: VBenchConfig) -> None:
    """Raises InputError where the official suite is asked for and is not here: found before hours of work."""
    if config.suite == "official" and config.names and not suite_path().is_file():
        raise InputError(
            f"score.vbench.suite is official, but VBench's prompt suite {suite_path()} does not exist; run: "
            "python -m pipelines.setup_vbench"
        )
