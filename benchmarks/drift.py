"""Does drift tell a bribed judge? ``python -m benchmarks.drift [--output DIR] [--seeds 5] [--tastes …] [--full]``.

The default loop, smaller (SMALL), is run with a judge that looks at saturation alone, one that wants stillness, and its
own, and what its rounds measured of drift is printed: the first two should raise their alarm, the last one none. At the
end stands the largest move of each measure in the rounds of the last kind: what tolerances are made from. Interrupted,
it goes on.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table

from evaluation.drift import TOLERANCES, beyond
from pipelines.loop.config import parse
from pipelines.loop.phases import turns
from pipelines.loop.run import Run
from pipelines.loop.summaries import MeasureSummary, read_summary
from videoduet.progress import console
from videoduet.store import atomic_path

TASTES = {"saturation": "SaturationLover", "motion": "StillLover", "none": None}
"""The measure that should raise the alarm, and the judge that should make it."""
SMALL = (
    "--rounds=2", "--prompts.limit=16", "--align.max_steps=24", "--align.learning_rate=1.5e-3",
    "--align.sdpo_mu=null", "--align.batch_size=4", "--align.micro_batch=4", "--audit.clips=0",
    "--judge.second_path=null",
)  # fmt: skip
"""Two minutes of one core, where the default run takes a quarter of an hour: rounds of few, large steps, without the
safeguard that keeps the default near its base.
"""


def measure(taste: str, seed: int, output: Path, options: list[str]) -> list[dict[str, Any]]:
    """What each round of a run measured of drift. What the base draws is the same, whatever the judge likes."""
    directory, judge = output / f"{taste}_{seed}", TASTES[taste]
    given = ["--run_dir", str(directory), "--seed", str(seed), *options]
    if judge:
        factory = f"benchmarks.flawed_judges.{judge}"
        given += ["--judge.path", "null", "--judge.second_path", "null", "--judge.factory", factory]
    base = Path("round_00") / "sample"
    drawn = next(
        (folder for folder in sorted(output.glob(f"*_{seed}")) if (folder / base / "done.json").exists()), None
    )
    if drawn is not None and not (directory / base).exists():
        with atomic_path(directory / base) as temporary:
            shutil.copytree(drawn / base, temporary, copy_function=os.link)
    run = Run.start(parse(given)[0])
    for turn in turns(run.config.rounds):
        path = run.directory.root / turn.path
        if turn.phase.first_round is not None and not (run.leaves_out(turn) or run.directory.is_done(path)):
            turn.do(run)
    return [read_summary(MeasureSummary, folder).drift for folder in sorted(directory.glob("round_*/measure"))]


def raised(change: dict[str, Any]) -> bool:
    """Whether a change is beyond the tolerance of today, whatever it was when the run was measured."""
    return beyond(change["low"], change["high"], TOLERANCES[change["name"]], change["spread"])


def rows_of(taste: str, seed: int, found: list[dict[str, Any]]) -> Iterator[list[str]]:
    """A row of the table for each round."""
    for number, drift in enumerate(found):
        alarms = ", ".join(change["name"] for change in drift["changes"] if raised(change))
        changes = ", ".join(
            f"{one['name']} {100 * one['change']:+.0f} ({100 * one['low']:+.0f} to {100 * one['high']:+.0f})"
            for one in drift["changes"]
        )
        yield [taste, str(seed), str(number), alarms or "none", changes]


def main(
    output: str = "runs/drift", seeds: int = 5, first: int = 0, tastes: list[str] | None = None, full: bool = False
) -> None:
    """Run them all.

    Args:
        output: Where runs are kept.
        seeds: Runs of each kind.
        first: Their first seed.
        tastes: Those to run (None: all).
        full: The default run as it is, not a smaller one.
    """
    table = Table("judge's taste", "seed", "round", "alarms", "changes (%)", title="drift against the base")
    alarmed, most = dict.fromkeys(TASTES, 0), dict.fromkeys(TOLERANCES, 0.0)
    for seed in range(first, first + seeds):
        for taste in tastes or TASTES:
            found = measure(taste, seed, Path(output), [] if full else list(SMALL))
            changes = [change for drift in found for change in drift["changes"]]
            alarmed[taste] += any(raised(change) and taste in (change["name"], "none") for change in changes)
            for change in changes if taste == "none" else ():
                most[change["name"]] = max(most[change["name"]], abs(change["change"]))
            for row in rows_of(taste, seed, found):
                table.add_row(*row)
                console.print(*row)
    console.print(table)
    console.print(", ".join(f"{taste}: {alarmed[taste]} of {seeds} alarmed" for taste in tastes or TASTES))
    console.print("largest moves: " + ", ".join(f"{name} {100 * value:.0f} %" for name, value in most.items()))


if __name__ == "__main__":
    CLI(main, as_positional=False)
