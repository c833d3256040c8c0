"""The whole loop: align a text-to-video generator with a reasoning video judge, and keep the two improving each other.

    python -m pipelines.united_finetune
    python -m pipelines.united_finetune --config my_recipe.yaml --run_dir runs/mine
    python -m pipelines.united_finetune --config my_recipe.yaml --plan
    python -m pipelines.united_finetune --config my_recipe.yaml --rehearse

Each round samples videos, refreshes the judge on them, lets it rank them and aligns the generator to its preferences;
after the last round every version is scored. Without arguments this runs the embedded shapes world: a tiny generator
and a tiny judge, on a laptop, in minutes. The same command resumes an interrupted run.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from pipelines.loop.config import LoopOptions, RunConfig, parse
from videoduet.commands import guarded, quiet_libraries
from videoduet.errors import InputError
from videoduet.hub import check
from videoduet.machines import Machine
from videoduet.progress import console

if TYPE_CHECKING:
    from pipelines.loop.run import Run


def run_loop(config: RunConfig, *, merge: bool = False, machine: str = "0/1") -> "Run":
    """The finished run of ``config``: run, or gone on with. ``merge`` also exports whole models; ``machine`` is this
    one among those that share the run directory.
    """
    from pipelines.loop.driver import drive
    from pipelines.loop.run import Run
    from pipelines.loop.told import next_steps
    from pipelines.report.cards import write_cards
    from pipelines.report.going_on import going_on
    from pipelines.report.page import write_report

    run = Run.start(config, Machine.parse(machine))
    with going_on(run.directory.root) if run.machine.first else nullcontext():
        drive(run, merge=merge, after_each=lambda: write_report(run.directory.root, running=True))
    if not run.machine.first:
        return run
    report = write_report(run.directory.root)
    write_cards(run.directory.root)
    console.print(f"Done: [bold]{escape(str(report))}[/]. Three things to do next:", soft_wrap=True)
    for number, step in enumerate(next_steps(run.directory.root), 1):
        console.print(f"  {number}. {step}", markup=False, highlight=False, soft_wrap=True)
    return run


def print_plan(config: RunConfig) -> None:
    """Print what the run would cost."""
    from pipelines.loop.plan import planned
    from pipelines.loop.plan_told import tell_plan

    plan = planned(config)
    prompts, videos = plan.pop("prompts"), config.generator.videos_per_prompt
    tell_plan(plan, f"{prompts} prompts × {videos} videos × {config.rounds} rounds")


def sibling(config: RunConfig, first_phase: str) -> RunConfig:
    """``config`` in a run directory beside its own that shares the phases before ``first_phase``."""
    from pipelines.loop.run import Run

    directory = Run.open(config.run_dir).directory.sibling(first_phase, config)
    console.print(f"Sibling run in {directory.root}", markup=False, soft_wrap=True)
    return dataclasses.replace(config, run_dir=str(directory.root))


def execute(config: RunConfig, options: LoopOptions) -> None:
    """Do what the command line says."""
    machine = Machine.parse(options.machine)
    if options.from_phase is not None and not (options.plan or options.rehearse):
        if machine.count > 1:
            raise InputError(
                "--from makes a directory, and one machine does that: give it without --machine, then the directory it "
                "names as --run_dir to all.",
                exit_code=2,
            )
        config = sibling(config, options.from_phase)
    quiet_libraries()
    if options.plan:
        print_plan(config)
        return
    if options.rehearse:
        from pipelines.loop.rehearsal.loop import rehearse
        from pipelines.loop.rehearsal.told import tell

        tell(rehearse(config), config.run_dir)
        return
    if options.push_to_hub and machine.first:
        check(f"{options.push_to_hub}-generator")
    if machine.first and not (Path(config.run_dir) / "config.yaml").exists():
        from pipelines.loop.told import beginning

        console.print(beginning(config), markup=False, highlight=False, soft_wrap=True)
    run = run_loop(config, merge=options.merge, machine=options.machine)
    if options.push_to_hub and run.machine.first:
        from pipelines.report.publishing import publish_final

        for address in publish_final(run.directory.root, options.push_to_hub, public=options.public):
            console.print(f"Published: {address}", markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    config, options = parse(arguments, __doc__)
    guarded(lambda: execute(config, options), "the same command")


if __name__ == "__main__":
    main()
