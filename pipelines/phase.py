"""Run one phase of a run by hand.

    python -m pipelines.phase rank --run_dir runs/my_run --round 1
    python -m pipelines.phase score --run_dir runs/my_run
    python -m pipelines.phase sample --run_dir /shared/my_run --machine 1/4

A run does this by itself; by hand a phase can be launched on many machines, each phase as suits it (accelerate launch
-m pipelines.phase ...), or several machines share one out (--machine). A finished phase is left as it is.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

from pipelines.loop.phases import Turn, phase_names, phase_of
from videoduet.commands import CommandParser, guarded, program, quiet_libraries
from videoduet.machines import Machine
from videoduet.progress import console


def do(name: str, run_dir: str, round_number: int, machine: str = "0/1") -> None:
    """Do a phase, or a machine's part of it, unless it is done. Raises InputError where it is not its turn."""
    from pipelines.loop.run import Run

    run, turn = Run.open(run_dir, Machine.parse(machine)), Turn(phase_of(name), round_number)
    run.check_turn(turn)
    quiet_libraries()
    if run.directory.is_done(run.directory.root / turn.path):
        console.print(f"{run.directory.root / turn.path} is done.", markup=False)
    else:
        turn.do(run)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = CommandParser(prog=program("pipelines.phase"), description=__doc__)
    parser.add_argument("name", choices=phase_names(), help="which phase")
    parser.add_argument("--run_dir", type=str, required=True, help="a run directory, as united_finetune makes it")
    parser.add_argument("--round", type=int, default=0, help="the round, counted from 0")
    parser.add_argument(
        "--machine", default="0/1", help="which machine this is, of how many share the phase: 0/4 to 3/4"
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    line = f"{options.name} --run_dir {options.run_dir} --round {options.round}"
    line += "" if options.machine == "0/1" else f" --machine {options.machine}"
    guarded(lambda: do(options.name, options.run_dir, options.round, options.machine), f"the same command ({line})")


if __name__ == "__main__":
    main()
