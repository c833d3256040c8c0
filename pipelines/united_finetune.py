"""The whole loop: ``python -m pipelines.united_finetune [--config FILE] [--run_dir DIR] [--seed N] [--rounds R]``.

Each round samples videos, refreshes the judge on them, lets it rank them and aligns the generator to its preferences;
after the last round every version is scored. Without arguments this runs the embedded shapes world on a laptop.
"""

import dataclasses
import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

from rich.markup import escape

from pipelines.loop.align import align
from pipelines.loop.config import EARLIEST_PHASE, RunConfig, parse
from pipelines.loop.export import export_final
from pipelines.loop.phase import phase_order, phase_path
from pipelines.loop.plan import print_plan
from pipelines.loop.rank import rank
from pipelines.loop.refresh import refresh
from pipelines.loop.run import Run
from pipelines.loop.score import score
from pipelines.report.page import write_report
from pipelines.sample import sample
from videoduet.commands import guarded
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.progress import console
from videoduet.store import write_json

Phase = Callable[[Run, int], None]


def phases(rounds: int) -> list[tuple[str, Phase, int]]:
    """Every phase in order: its path in the run directory, its function and its round."""
    functions = {function.__name__: function for function in (sample, refresh, rank, align, score)}
    return [(phase_path(name, round), functions[name], round) for name, round in phase_order(rounds)]


def run_loop(config: RunConfig, *, merge: bool = False) -> Run:
    """Run, or go on with, the loop of ``config``; returns the finished run."""
    run = Run.start(config)
    _reopen_score(run)
    for path, phase, round in phases(config.rounds):
        directory = run.directory.root / path
        if run.directory.is_done(directory):
            console.print(f"{path}: done before", style="dim", markup=False)
            continue
        started = time.perf_counter()
        launch_config = config.launch.get(phase.__name__)
        if launch_config is not None:
            _launch(phase, launch_config, run, round)
        else:
            phase(run, round)
            gc.collect()
        write_json(directory / "timing.json", {"seconds": time.perf_counter() - started})
        write_report(run.directory.root)
    export_final(run, merge=merge)
    report = write_report(run.directory.root)
    console.print(f"Done. Open [bold]{escape(str(report))}[/] in a browser.", soft_wrap=True)
    return run


def _reopen_score(run: Run) -> None:
    """Where ``rounds`` grew, the scores of a shorter run are made anew; the videos drawn for them are kept."""
    output = run.directory.phase("score")
    if output.exists() and not run.directory.is_done(run.directory.root / phases(run.config.rounds)[-2][0]):
        # In this order: killed in between, the same is found to do again.
        for path in output.glob("comparisons_judge_*.parquet"):
            path.unlink()
        (output / "done.json").unlink(missing_ok=True)


def _launch(phase: Phase, launch_config: str, run: Run, round: int) -> None:
    """Run one phase as its own ``accelerate launch``, with its own processes and memory."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", resolve(launch_config), "-m"]
    command += [f"pipelines.{phase.__name__}", "--run_dir", str(run.directory.root), "--round", str(round)]
    code = subprocess.run(command).returncode
    if code:
        raise InputError(f"Phase {phase.__name__} of round {round} ended with exit code {code}; its message is above.")


def main() -> None:
    def command() -> None:
        config, extras = parse()
        if extras["plan"]:
            print_plan(config)
            return
        if extras["from_phase"]:
            names = [path for path, _, _ in phases(config.rounds)]
            old = Run.open(config.run_dir).directory
            directory = old.sibling(extras["from_phase"], names, old.touched_phases(config, EARLIEST_PHASE), config)
            config = dataclasses.replace(config, run_dir=str(directory.root))
            console.print(f"Sibling run in {directory.root}", markup=False, soft_wrap=True)
        run_loop(config, merge=extras["merge"])

    guarded(command, "the same command")


if __name__ == "__main__":
    main()
