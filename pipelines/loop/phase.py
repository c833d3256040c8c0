"""How a phase is a command over a run directory."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from jsonargparse import CLI, ArgumentParser
from rich.markup import escape

from pipelines.loop.run import Run
from videoduet.errors import InputError
from videoduet.progress import console

Config = TypeVar("Config")


def parse_command(kind: type[Config], name: str, description: str, arguments: Sequence[str]) -> Config:
    """Read the command line of ``python -m pipelines.NAME`` into a dataclass; ``--config`` gives a YAML file of it.

    Wrong usage ends the program with exit code 2 and a message that names it.
    """
    parser = ArgumentParser(prog=f"python -m pipelines.{name}", description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parser.add_class_arguments(kind, None, fail_untyped=False)
    options = parser.parse_args(arguments)
    options.pop("config")
    try:
        return kind(**parser.instantiate_classes(options))
    except InputError as error:
        parser.error(str(error))


def guarded(command: Callable[[], None], resume: str) -> None:
    """Run a command; what the user can mend ends it with one sentence and an exit code, not a traceback."""
    try:
        command()
    except InputError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.print(f"\nStopped. Nothing is lost; go on with: {resume}", soft_wrap=True, markup=False)
        sys.exit(130)
    except OSError as error:
        message = f"error: {error}; mend that (space, permissions, a path), then go on with: {resume}"
        console.print(message, soft_wrap=True, markup=False)
        sys.exit(1)


ROUND = ("sample", "refresh", "rank", "align")
"""The phases of a round, in order; the first round has no refresh."""


def phase_order(rounds: int) -> list[tuple[str, int]]:
    """Names and rounds of all phases of a run, in order; the score, which is of the whole run, counts as round 0."""
    steps = [(name, round) for round in range(rounds) for name in ROUND if (name, round) != ("refresh", 0)]
    return [*steps, ("score", 0)]


def phase_path(name: str, round: int) -> str:
    """Where a phase lies, relative to the run directory."""
    return name if name == "score" else f"round_{round:02d}/{name}"


def _check_turn(run: Run, name: str, round: int) -> None:
    """InputError unless the run has this phase and the one before it is done."""
    order = phase_order(run.config.rounds)
    if (name, round) not in order:
        raise InputError(f"The run has no {name} in round {round}; it has {run.config.rounds} rounds.", exit_code=2)
    before = phase_path(*order[max(0, order.index((name, round)) - 1)])
    if order[0] != (name, round) and not run.directory.is_done(run.directory.root / before):
        raise InputError(f"{phase_path(name, round)} needs {before}, which is not done; run that phase first.")


def phase_main(phase: Callable[[Run, int], None], description: str) -> None:
    """The command line of one phase: ``--run_dir RUN --round R``. A finished phase is left as it is."""

    def main(run_dir: Path, round: int = 0) -> None:
        """Run this phase.

        Args:
            run_dir: A run directory that ``pipelines.united_finetune`` made.
            round: The round, counted from 0.
        """

        def command() -> None:
            run = Run.open(run_dir)
            _check_turn(run, phase.__name__, round)
            path = run.directory.root / phase_path(phase.__name__, round)
            if run.directory.is_done(path):
                console.print(f"{path} is done.", markup=False)
            else:
                phase(run, round)

        guarded(command, f"the same command (--run_dir {run_dir} --round {round})")

    main.__doc__ = f"{description}\n\n{main.__doc__.split('Run this phase.')[1]}"
    CLI(main, as_positional=False)
