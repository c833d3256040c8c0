"""What a person is told when a run begins, and when it is done."""

import shlex
from dataclasses import replace
from pathlib import Path

from pipelines.loop.config import RunConfig, parse
from pipelines.loop.plan import counts
from pipelines.loop.prompts import read_run_prompts

DEFAULT_TIME = "7 to 12 minutes on two cores"
"""What the default run takes, as docs/performance.md has it."""


def beginning(config: RunConfig) -> str:
    """What a run will do, how long that takes where it is known, and how it is stopped and watched. Raises InputError
    where its prompts cannot be read.
    """
    prompts = read_run_prompts(config.prompts)
    found = counts(config, len(prompts.train), len(prompts.held_out), 1)
    rounds = f"{config.rounds} rounds" if config.rounds > 1 else "One round"
    known = replace(parse([])[0], run_dir=config.run_dir) == config
    time = f"That takes {DEFAULT_TIME}." if known else "--plan says what that takes."
    return (
        f"{rounds} over {len(prompts.train):,} prompts: {found['videos']:,} videos to draw, "
        f"{found['judge rollouts']:,} answers of judges, {found['denoiser forwards (alignment)']:,} passes to align "
        f"the generator. {time} Ctrl-C stops it, and the same command goes on; {config.run_dir}/report.html, made "
        "after the first phase, shows how far it is."
    )


def next_steps(root: Path) -> list[str]:
    """Three things to do with the finished run in ``root``."""
    there, videos = shlex.quote(str(root)), sorted((root / "score" / "videos").glob("*.mp4"))
    judge = f" --judge {there}/final/judge" if (root / "final" / "judge").is_dir() else ""
    two = " ".join(shlex.quote(str(video)) for video in videos[:: max(1, len(videos) - 1)][:2]) or "A.mp4 B.mp4"
    return [
        f"Look: open {there}/report.html in a browser.",
        f"Ask the judge yourself: python -m pipelines.judge compare {two}{judge}",
        "Take it along: python -m pipelines.export --adapter "
        f"{there}/final/generator --format diffusers --output lora, or give a recipe with your own models as --config.",
    ]
