"""Every phase of a run once, at its smallest, with its own models; one kill and resume; what would fail later."""

import gc
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.loop.config import RunConfig
from pipelines.loop.driver import launched
from pipelines.loop.phases import Turn, turns
from pipelines.loop.plan import counted
from pipelines.loop.prompts import read_run_prompts
from pipelines.loop.rates import cards
from pipelines.loop.rehearsal import checks
from pipelines.loop.rehearsal.small import STAND_INS, shrunk
from pipelines.loop.run import Run
from pipelines.loop.summaries import RankSummary, RefreshSummary, read_summary, write_summary
from videoduet.errors import InputError
from videoduet.progress import console
from videoduet.records import LabelledPair, PreferencePair
from videoduet.store import write_records


@dataclass
class Step:
    """What was rehearsed: seconds, the peak of memory in bytes (of the process, without a GPU), and what is told."""

    name: str
    seconds: float
    peak: float
    told: str


@dataclass
class Rehearsal:
    """What came of it: steps, sentences about the whole run, notes, and what would fail later, each with its mend."""

    steps: list[Step] = field(default_factory=list[Step])
    whole_run: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def attempt(self, name: str, work: Callable[[], str]) -> float | None:
        """Do ``work`` and note what it tells; what it raises is a problem (then None), else its seconds."""
        console.print(f"rehearsing {name}", style="dim", markup=False)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        try:
            told = work()
        # Whatever a library raises would be raised in the run as well.
        except Exception as error:
            self.problems.append(checks.mended(name, error))
            told = "failed"
        seconds = time.perf_counter() - started
        gc.collect()
        self.steps.append(Step(name, seconds, _peak(), told))
        return None if told == "failed" else seconds


def rehearse(config: RunConfig) -> Rehearsal:
    """What a run of ``config`` would meet. Nothing is written into its run directory, and what is written beside it is
    removed.
    """
    found = Rehearsal()
    found.problems += [*checks.directories(config), *checks.gpus(config)]
    found.notes += checks.environments(config)
    train, held_out = _prompts(config, found)
    parent = checks.existing(Path(config.run_dir).absolute().parent)
    beside = parent if not list(checks.directories(replace(config, run_dir=str(parent)))) else None
    folder = Path(tempfile.mkdtemp(prefix=f".rehearsal_{Path(config.run_dir).name}_", dir=beside))
    try:
        _rehearsed(config, folder, train, held_out, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _prompts(config: RunConfig, found: Rehearsal) -> tuple[list[str], list[str]]:
    try:
        read = read_run_prompts(config.prompts)
    except InputError as error:
        found.problems.append(str(error))
        return list(STAND_INS[:2]), list(STAND_INS[2:])
    return [prompt.text for prompt in read.train], [prompt.text for prompt in read.held_out]


def _rehearsed(config: RunConfig, folder: Path, train: list[str], held_out: list[str], found: Rehearsal) -> None:
    try:
        run = Run.start(shrunk(config, folder, train, held_out))
    except InputError as error:
        found.problems.append(str(error))
        return
    loading = {
        "generator": found.attempt("loading the generator", lambda: _generator(run)),
        "judge": found.attempt("loading the judge", lambda: _judge(run)),
    }
    if run.config.judge.second_path is not None:
        found.attempt("loading the second judge", lambda: _models(run.load_judge(run.config.judge.second_path or "")))
    if None in loading.values():
        return
    seconds: dict[str, float] = {}
    for turn in turns(run.config.rounds):
        if turn.path == "round_00/sample":
            found.attempt("a kill in sample", lambda turn=turn: _killed(run, turn))
        took = found.attempt(turn.path, lambda turn=turn: _done(run, turn))
        if took is None:
            return
        model = {"sample": "generator", "align": "generator", "rank": "judge", "refresh": "judge"}.get(turn.phase.name)
        seconds[turn.phase.name] = max(took - (loading[model] or 0.0 if model else 0.0), 1e-3)
    _extrapolated(config, run, seconds, (len(train), len(held_out)), found)


def _killed(run: Run, turn: Turn) -> str:
    """Start the phase in a process of its own and kill it once it has begun to write."""
    folder = run.directory.root / turn.path
    command = [sys.executable, "-m", "pipelines.phase", turn.phase.name, "--run_dir", str(run.directory.root)]
    # Its errors are told when the phase is done here.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(folder.glob("videos/*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "done.json").unlink(missing_ok=True)
    return f"stopped with {len(list(folder.glob('videos/*.mp4')))} videos written; the next line goes on from there"


def _done(run: Run, turn: Turn) -> str:
    config = run.config.launch.get(turn.phase.name)
    if config is not None:
        launched(turn, config, str(run.directory.root))
    else:
        turn.do(run)
    if turn.phase.name == "rank":
        return _with_a_pair(run, turn.round_number)
    if turn.phase.name == "refresh":
        return _refreshed(run, turn)
    return "done"


def _with_a_pair(run: Run, number: int) -> str:
    """What the judge decided; where that leaves nothing to learn from, a pair is made up, so that training is tried."""
    summary, pairs = run.preferences(number)
    told = f"{summary.decided} of {summary.comparisons} decided, {summary.unparsable} unparsable"
    if pairs:
        return told
    first, second = run.drawn("sample", number)[:2]
    made_up = PreferencePair(
        prompt_id=first.prompt_id, chosen_id=first.id, rejected_id=second.id, chosen_round=number,
        rejected_round=number, margin=1.0, agreement=1.0, comparison_ids=(),
    )  # fmt: skip
    folder = run.folder("rank", number)
    write_records(folder / "pairs.parquet", [made_up], PreferencePair)
    write_summary(folder, replace(summary, pairs=1, skipped=None))
    read_summary(RankSummary, folder)
    return f"{told}; a label is made up for what comes next"


def _refreshed(run: Run, turn: Turn) -> str:
    """What became of the refresh; with made-up labels where the judge gave none."""
    folder = run.directory.root / turn.path
    summary = read_summary(RefreshSummary, folder)
    if not (folder / "labels.parquet").exists() or summary.status != "off":
        return f"{summary.status}: {summary.reason}" if summary.reason else summary.status
    before, after = (run.samples("sample", number) for number in (turn.round_number - 1, turn.round_number))
    old = {sample.prompt_id: sample.video for sample in before}
    texts = {prompt.id: prompt for prompt in run.prompts}
    known = [sample for sample in after if sample.prompt_id in old]
    labels = [
        LabelledPair(
            prompt=texts[sample.prompt_id], first=sample.video, second=old[sample.prompt_id], preferred="first",
            source=f"across {turn.round_number}",
        )
        for sample in known
    ]  # fmt: skip
    shutil.rmtree(folder)
    write_records(folder / "labels.parquet", labels, LabelledPair, root=run.directory.root)
    turn.do(run)
    return f"{read_summary(RefreshSummary, folder).status}, on made-up labels"


def _generator(run: Run) -> str:
    generator: Any = run.generator(0)
    return _described(generator.pipeline.components)


def _judge(run: Run) -> str:
    return _models(run.judge(0))


def _models(judge: Any) -> str:
    model = getattr(judge, "model", None)
    return _described({"judge": model}) if isinstance(model, nn.Module) else f"{type(judge).__name__}, no model here"


def _described(parts: dict[str, Any]) -> str:
    """Precision and device of each model; that no key is missing was seen to when it was loaded."""
    told = [
        f"{name} {str(next(part.parameters()).dtype).removeprefix('torch.')} {next(part.parameters()).device}"
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    ]
    return ", ".join([*told, "no key missing"])


def _peak() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)


def _extrapolated(
    config: RunConfig, run: Run, seconds: dict[str, float], prompts: tuple[int, int], found: Rehearsal
) -> None:
    """Hours, disk and rent of the whole run, by what the rehearsed one took: each phase grows with what it counts."""
    small = counted(run.config, 2, 2)
    whole = counted(config, *prompts)
    units = {
        "sample": "videos of rounds", "rank": "rank rollouts", "align": "denoiser forwards (alignment)",
        "measure": "videos of score", "score": "score rollouts", "refresh": "GRPO rollouts",
    }  # fmt: skip
    hours: dict[str, float] = {}
    for phase, took in seconds.items():
        rounds = run.config.rounds if phase in ("sample", "rank", "align", "measure") else 1
        each = took * rounds / max(small[units[phase]], 1)
        hours[phase] = each * whole[units[phase]] / 3600
    told = ", ".join(f"{phase} {value:.2f}" for phase, value in hours.items())
    found.whole_run.append(f"The whole run at these rates, at most: {sum(hours.values()):.2f} hours ({told}).")
    name = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else ""
    if card := next((card for card in cards() if card.name.removeprefix("rtx") in name), None):
        found.whole_run.append(f"Rent at ${card.dollars:g} an hour: ${sum(hours.values()) * card.dollars:,.0f}.")
    folder = run.folder("sample", 0)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 4
    videos = whole["videos of rounds"] + whole["videos of score"] + whole["videos of VBench"]
    found.whole_run.append(f"Videos and latents on disk: {size * videos / 1e9:.2f} GB.")
    free = shutil.disk_usage(checks.existing(Path(config.run_dir))).free
    if problem := checks.space(config, size, *prompts, free):
        found.problems.append(problem)
