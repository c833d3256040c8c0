"""What a person is told when a run begins, and when it is done."""

import shlex
from dataclasses import replace
from pathlib import Path

from pipelines.loop.config import RunConfig, parse
from pipelines.loop.plan import counts
from pipelines.loop.prompts import read_run_prompts
from videoduet.records import Prompt
from videoduet.store import read_records

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
    there = shlex.quote(str(root))
    judge = f" --judge {there}/final/judge" if (root / "final" / "judge").is_dir() else ""
    return [
        f"Look: open {there}/report.html in a browser.",
        f"Ask the judge yourself: python -m pipelines.judge compare {_case(root / 'score')}{judge}",
        "Take it along: python -m pipelines.export --adapter "
        f"{there}/final/generator --format diffusers --output lora, or give a recipe with your own models as --config.",
    ]


def _case(score: Path) -> str:
    """A held-out prompt's videos of the base and of the last version, from the same noise, as arguments."""
    for base in sorted((score / "videos").glob("G_0_*.mp4")):
        case = base.name.removeprefix("G_0")
        versions = sorted(score.glob(f"videos/G_*{case}"), key=lambda path: int(path.name.split("_")[1]))
        texts = {prompt.id: prompt.text for prompt in read_records(Prompt, score / "prompts.parquet")}
        text = next((text for name, text in texts.items() if case.startswith(f"_{name}_")), None)
        if len(versions) > 1 and text is not None:
            return shlex.join([str(base), str(versions[-1]), "--prompt", text])
    return "A.mp4 B.mp4 --prompt TEXT"
