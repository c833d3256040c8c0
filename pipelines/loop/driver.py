"""Run the phases of a run, in their order, each in place or as a launch of its own."""

import gc
import subprocess
import sys
import time
from collections.abc import Callable

from pipelines.loop.export import export_final
from pipelines.loop.first_checks import check_alike
from pipelines.loop.phases import Turn, turns
from pipelines.loop.run import Run
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.machines import ALONE, Machine
from videoduet.progress import console
from videoduet.store import write_json


def drive(run: Run, *, merge: bool, after_each: Callable[[], object]) -> None:
    """Do what is not done of ``run``, and export the result; ``after_each`` phase something may be shown.

    ``merge`` also exports whole models. A machine that is not the first does its part of what is shared out, and waits
    for the rest.
    """
    if run.machine.first:
        _reopen_score(run)
    for turn in turns(run.config.rounds):
        folder = run.directory.root / turn.path
        check_alike(run.config, run.directory, run.machine)
        if run.leaves_out(turn):
            continue
        if run.directory.is_done(folder):
            console.print(f"{turn.path}: done before", style="dim", markup=False)
            continue
        started = time.perf_counter()
        if run.machine.first or turn.phase.shared:
            _do(run, turn)
        if run.machine.first:
            write_json(folder / "timing.json", {"seconds": time.perf_counter() - started})
            after_each()
        else:
            run.machine.wait_for([folder / "done.json"], turn.path)
    if run.machine.first:
        export_final(run, merge=merge)


def _do(run: Run, turn: Turn) -> None:
    launch_config = run.config.launch.get(turn.phase.name)
    if launch_config is not None:
        launched(turn, launch_config, str(run.directory.root), run.machine)
    else:
        turn.do(run)
        gc.collect()


def _reopen_score(run: Run) -> None:
    """Where ``rounds`` grew, the scores of a shorter run are made anew; the videos drawn for them are kept."""
    output, trained = run.folder("score"), run.folder("align", run.rounds - 1)
    if output.exists() and not run.directory.is_done(trained):
        # In this order: killed in between, the same is found to do again.
        for path in output.glob("comparisons_judge_*.parquet"):
            path.unlink()
        (output / "done.json").unlink(missing_ok=True)


def launched(turn: Turn, launch_config: str, run_dir: str, machine: Machine = ALONE) -> None:
    """Do one phase, or this machine's part, as its own ``accelerate launch``, with its own processes and memory."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", resolve(launch_config), "-m"]
    command += ["pipelines.phase", turn.phase.name, "--run_dir", run_dir, "--round", str(turn.round_number)]
    command += [] if machine == ALONE else ["--machine", str(machine)]
    code = subprocess.run(command).returncode
    if code:
        raise InputError(
            f"Phase {turn.phase.name} of round {turn.round_number} ended with exit code {code}; its message is above."
        )
