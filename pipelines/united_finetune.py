"""The whole loop: ``python -m pipelines.united_finetune [--config FILE] [--run_dir DIR] [--seed N] [--rounds R]``.

Each round samples videos, refreshes the judge on them, lets it rank them and aligns the generator to its preferences;
after the last round every version is scored. Without arguments this runs the embedded shapes world on a laptop.
"""

import dataclasses
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Callable

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

from pipelines.align import align
from pipelines.config import RunConfig, parse, resolve
from pipelines.export import export_final
from pipelines.phase import guarded
from pipelines.plan import print_plan
from pipelines.rank import rank
from pipelines.refresh import refresh
from pipelines.report import write_report
from pipelines.run import Run
from pipelines.sample import sample
from pipelines.score import score
from videoduet.errors import InputError
from videoduet.progress import console

Phase = Callable[[Run, int], None]


def phases(rounds: int) -> list[tuple[str, Phase, int]]:
    """Every phase in order: its path in the run directory, its function and its round."""
    steps = []
    for round in range(rounds):
        functions = (sample, rank, align) if round == 0 else (sample, refresh, rank, align)
        steps += [(f"round_{round:02d}/{function.__name__}", function, round) for function in functions]
    return [*steps, ("score", score, 0)]


def run_loop(config: RunConfig, *, merge: bool = False) -> Run:
    """Run, or go on with, the loop of ``config``; returns the finished run."""
    run = Run.start(config)
    _reopen_score(run)
    for path, phase, round in phases(config.rounds):
        directory = run.directory.root / path
        if run.directory.is_done(directory):
            console.print(f"{path}: done before", style="dim", markup=False)
            continue
        launch_config = config.launch.get(phase.__name__)
        if launch_config is not None:
            _launch(phase, launch_config, run, round)
        else:
            phase(run, round)
            gc.collect()
        write_report(run.directory.root)
    export_final(run, merge=merge)
    report = write_report(run.directory.root)
    console.print(f"Done. Open [bold]{report}[/] in a browser.", soft_wrap=True)
    return run


def _reopen_score(run: Run) -> None:
    """Where ``rounds`` grew, the scores of a shorter run are made anew; the videos drawn for them are kept."""
    done = run.directory.phase("score") / "done.json"
    if done.exists() and f"G_{run.config.rounds}" not in (done.parent / "summary.json").read_text():
        done.unlink()
        for path in done.parent.glob("comparisons_judge_*.parquet"):
            path.unlink()


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
        if extras["from_phase"]:
            names = [path for path, _, _ in phases(config.rounds)]
            old = Run.open(config.run_dir)
            directory = old.directory.sibling(extras["from_phase"], names)
            config = dataclasses.replace(config, run_dir=str(directory.root))
            console.print(f"Sibling run in {directory.root}", markup=False, soft_wrap=True)
        if extras["plan"]:
            print_plan(config)
        else:
            run_loop(config, merge=extras["merge"])

    guarded(command, "the same command")


if __name__ == "__main__":
    main()
