"""Does drift tell a bribed judge? ``python -m benchmarks.drift [--output DIR] [--seeds 5] [--tastes …]``.

The default loop is run with a judge that looks at saturation alone, one that wants stillness, and its own, and what its
rounds measured of drift is printed: the first two should raise their alarm, the last one none. Interrupted, it goes on.
"""

from pathlib import Path
from typing import Any

from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table

from pipelines.loop.config import parse
from pipelines.loop.summaries import MeasureSummary, read_summary
from pipelines.united_finetune import run_loop
from videoduet.progress import console

TASTES = {"saturation": "SaturationLover", "motion": "StillLover", "none": None}
"""The measure that should raise the alarm, and the judge that should make it."""


def measure(taste: str, seed: int, output: Path, options: list[str]) -> list[dict[str, Any]]:
    """What each round of a run measured of drift."""
    directory, judge = output / f"{taste}_{seed}", TASTES[taste]
    given = ["--run_dir", str(directory), "--seed", str(seed), *options]
    if judge:
        factory = f"benchmarks.flawed_judges.{judge}"
        given += ["--judge.path", "null", "--judge.second_path", "null", "--judge.factory", factory]
    config, _ = parse(given)
    run_loop(config)
    rounds = sorted(directory.glob("round_*/measure"))
    return [read_summary(MeasureSummary, folder).drift for folder in rounds]


def main(
    output: str = "runs/drift", seeds: int = 5, tastes: list[str] | None = None, options: list[str] | None = None
) -> None:
    """Run them all.

    Args:
        output: Where runs are kept.
        seeds: Runs of each kind.
        tastes: Those to run (None: all).
        options: More options of the loop, as they are typed: --prompts.limit=6.
    """
    table = Table("judge's taste", "seed", "round", "alarms", "changes", title="drift against the base")
    for taste in tastes or TASTES:
        for seed in range(seeds):
            for number, found in enumerate(measure(taste, seed, Path(output), options or [])):
                alarms = ", ".join(change["name"] for change in found["changes"] if change["alarm"])
                changes = ", ".join(f"{change['name']} {100 * change['change']:+.0f} %" for change in found["changes"])
                table.add_row(taste, str(seed), str(number), alarms or "none", changes)
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False)
