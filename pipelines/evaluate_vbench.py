"""Score a generator's checkpoint, or videos from anywhere, on VBench.

    python -m pipelines.setup_vbench
    python -m pipelines.evaluate_vbench --generator DIR_OR_ID --output DIR
    python -m pipelines.evaluate_vbench --generator DIR_OR_ID --adapter LORA --base BASE_OUTPUT --output DIR
    python -m pipelines.evaluate_vbench --videos FOLDER --output DIR
    python -m pipelines.evaluate_vbench --generator DIR_OR_ID --output DIR --plan
    python -m pipelines.evaluate_vbench --generator DIR_OR_ID --output DIR --rehearse

The first makes the environment that the vbench package needs. The same command resumes what was stopped. The last but
one says what it would cost; the last does it all once at its smallest, and tells what would fail.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.vbench.config import VBenchEvaluationConfig
from videoduet.commands import guarded, parse_planned, quiet_libraries
from videoduet.errors import InputError
from videoduet.progress import console


def run(config: VBenchEvaluationConfig) -> dict[str, Any] | None:
    """What results.json keeps (None on all processes but the first), shown on the terminal and as a page.

    Raises InputError where no dimension could be scored.
    """
    from evaluation.vbench.evaluation import evaluate
    from evaluation.vbench.results import print_summary
    from pipelines.report.vbench import write_page

    if config.generator:
        quiet_libraries()
    summary = evaluate(config)
    if summary is None:
        return None
    page = write_page(Path(config.output), summary)
    print_summary(summary)
    console.print(f"Results: {page}, results.json, results.csv.", markup=False, soft_wrap=True)
    if all("not_scored" in figures for figures in summary["dimensions"].values()):
        raise InputError("No dimension could be scored; the table says why for each.")
    return summary


def plan(config: VBenchEvaluationConfig) -> None:
    """Print what the evaluation would cost."""
    from pipelines.loop.plan_parts import planned_evaluation
    from pipelines.loop.plan_told import tell_plan

    tell_plan(planned_evaluation(config), f"{config.generator or config.videos} on VBench")


def rehearse(config: VBenchEvaluationConfig) -> None:
    """Rehearse the evaluation and print what came of it. Raises InputError where something would fail later."""
    from pipelines.loop.rehearsal import evaluate_vbench
    from pipelines.loop.rehearsal.told import tell

    if config.generator:
        quiet_libraries()
    tell(evaluate_vbench.rehearse(config), config.output)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    config, planned, rehearsed = parse_planned(VBenchEvaluationConfig, "pipelines.evaluate_vbench", __doc__, arguments)
    guarded(lambda: (plan if planned else rehearse if rehearsed else run)(config), "the same command")


if __name__ == "__main__":
    main()
