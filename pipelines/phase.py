"""How a phase is a command over a run directory."""

import sys
from collections.abc import Callable
from pathlib import Path

from jsonargparse import CLI
from rich.markup import escape

from pipelines.run import Run
from videoduet.errors import InputError
from videoduet.progress import console


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
            path = run.directory.phase(phase.__name__, round)
            if run.directory.is_done(path):
                console.print(f"{path} is done.", markup=False)
            else:
                phase(run, round)

        guarded(command, f"the same command (--run_dir {run_dir} --round {round})")

    main.__doc__ = f"{description}\n\n{main.__doc__.split('Run this phase.')[1]}"
    CLI(main, as_positional=False)
