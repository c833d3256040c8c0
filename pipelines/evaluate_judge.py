"""Measure a judge on a public benchmark.

    python -m pipelines.evaluate_judge --judge J --benchmark B --data FOLDER --output DIR

Prints a table beside the papers' published rows and writes results.json, with bootstrap intervals. docs/datasets.md
names the benchmarks and the folders expected. The same command resumes.
"""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from reward_model.datasets import check_benchmark
from reward_model.measuring.config import JudgeEvaluationConfig
from videoduet.commands import guarded, parse_command
from videoduet.progress import console


def show(results: dict[str, Any]) -> None:
    """Print a table for each dimension: this judge and the published rows."""
    for name, measured in results["dimensions"].items():
        metrics = [key for key, value in measured.items() if isinstance(value, dict)]
        if not metrics:
            console.print(f"{name}: {measured['n']} answers could be read, too few to measure.", markup=False)
            continue
        table = Table("", *metrics, title=f"{results['benchmark']} ({results['split']}), {name}, n = {measured['n']}")
        cells = [f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for m in map(measured.get, metrics)]
        table.add_row("this judge", *cells, style="bold")
        for row in results["published"][name]:
            table.add_row(str(row["method"]), *(f"{row[key]:.3f}" if key in row else "–" for key in metrics))
        console.print(table)
        rest = [f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in measured.items() if k not in metrics]
        console.print(", ".join(rest), markup=False, highlight=False)
    _show_notes(results)


def _show_notes(results: dict[str, Any]) -> None:
    if position := results.get("position"):
        console.print(
            f"The two orders agree in {position['consistency']:.3f} of the pairs; the video shown first wins "
            f"{position['first_position_rate']:.3f} of the decided showings.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for by, split in results.get("splits", {}).items():
        means = ", ".join(f"{name} {m['SRCC']:.3f} / {m['PLCC']:.3f}" for name, m in split["dimensions"].items())
        console.print(
            f"Ten test fifths by {by}, {100 * split['shared']:.0f} % of their prompts outside them too; mean SRCC / "
            f"PLCC: {means}.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for name, pairs in results.get("pairs_within_prompts", {}).items():
        console.print(
            f"{name}: of {pairs['n']} pairs of one prompt, {pairs['accuracy']:.3f} are scored as people do.",
            markup=False,
        )  # fmt: skip
    console.print(f"{results['unreadable']} of {results['n']} answers could not be read.", markup=False)
    if results["unreadable_videos"]:
        console.print(f"{results['unreadable_videos']} items were left out: their video is damaged.", markup=False)
    for group, found in results.get("together", {}).items():
        if "missing" in found:
            console.print(f"Overall, {group}: {', '.join(found['missing'])} is missing.", markup=False, soft_wrap=True)
            continue
        table = Table("", "SRCC", "PLCC", title=f"Overall, {group}: the mean weighted by videos, n = {found['n']}")
        for row in [{"method": "this judge", **found}, *found["published"]]:
            table.add_row(str(row["method"]), f"{row['SRCC']:.3f}", f"{row['PLCC']:.3f}")
        console.print(table)
    if results["note"]:
        console.print(f"Note: {results['note']}", markup=False, soft_wrap=True)


def parse(arguments: Sequence[str] | None = None) -> JudgeEvaluationConfig:
    """The config that a command line says (None: the process's own)."""
    return parse_command(JudgeEvaluationConfig, "pipelines.evaluate_judge", __doc__, arguments)


def run(config: JudgeEvaluationConfig) -> None:
    """Measure and print what came out."""
    check_benchmark(config.benchmark)
    from reward_model.measuring.benchmark import evaluate

    show(evaluate(config))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    config = parse(arguments)
    guarded(lambda: run(config), "the same command")


if __name__ == "__main__":
    main()
