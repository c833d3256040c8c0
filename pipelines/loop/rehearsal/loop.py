"""Every phase of a run once, at its smallest, with its own models; one kill and resume; what would fail later."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from pipelines.loop.config import RunConfig
from pipelines.loop.driver import launched
from pipelines.loop.phases import Turn, turns
from pipelines.loop.plan import counted
from pipelines.loop.prompts import read_run_prompts
from pipelines.loop.rehearsal import checks, memory
from pipelines.loop.rehearsal.small import STAND_INS, shrunk
from pipelines.loop.rehearsal.steps import Rehearsal, described, killed, scratch, whole_batch
from pipelines.loop.run import Run
from pipelines.loop.summaries import RankSummary, RefreshSummary, read_summary, write_summary
from videoduet.errors import InputError
from videoduet.records import LabelledPair, PreferencePair
from videoduet.store import read_records, write_records

KNOBS = {
    **memory.KNOBS,
    "refresh": "lower refresh.training.micro_batch",
    "loading the judge": "give judge.dtype bfloat16, or a smaller judge",
    "loading the second judge": "give judge.dtype bfloat16, or a smaller judge",
    "": memory.KNOBS["sample"],
}
"""What to lower where memory runs out in a phase."""
LOADS = {"sample": "generator", "align": "generator", "audit": "judge", "rank": "judge", "refresh": "judge"}
"""The model that a phase begins by loading."""


def rehearse(config: RunConfig) -> Rehearsal:
    """What a run of ``config`` would meet. Nothing is written into its run directory, and what is written beside it is
    removed.

    Raises InputError in one of several processes.
    """
    checks.one_process()
    found = Rehearsal(knobs=KNOBS)
    found.problems += [
        *checks.directories(config),
        *checks.gpus(config),
        *memory.too_large(config, memory.room()),
        *checks.tracker(config.align.tracker),
    ]
    found.notes += checks.environments(config)
    train, held_out = _prompts(config, found)
    with scratch(config.run_dir) as folder:
        _rehearsed(config, folder, train, held_out, found)
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
    video, generator = 0.0, list[Any]()

    def batch() -> str:
        nonlocal video
        video, told = whole_batch(generator.pop(), config.generator.batch_size, config.generator.speed)
        return told

    loading = {"generator": found.attempt("loading the generator", lambda: _generator(run, generator))}
    if generator and found.attempt("drawing a whole batch", batch) is None:
        return
    loading["judge"] = found.attempt("loading the judge", lambda: _judge(run))
    if run.config.judge.second_path is not None:
        found.attempt("loading the second judge", lambda: _models(run.load_judge(run.config.judge.second_path or "")))
    if None in loading.values():
        return
    seconds: dict[str, float] = {}
    for turn in turns(run.config.rounds):
        if run.leaves_out(turn):
            continue
        if turn.path == "round_00/sample":
            found.attempt("a kill in sample", lambda turn=turn: _killed(run, turn))
        took = found.attempt(turn.path, lambda turn=turn: _done(run, turn))
        if took is None:
            return
        model = LOADS.get(turn.phase.name)
        # An audit has nothing to do where a refresh did it.
        seconds.setdefault(turn.phase.name, 1e-3)
        seconds[turn.phase.name] = max(took - (loading[model] or 0.0 if model else 0.0), seconds[turn.phase.name])
    # Some of its videos were drawn before the kill.
    seconds["sample"] = max(seconds["sample"], 4 * video)
    _extrapolated(config, run, seconds, (len(train), len(held_out)), found)


def _killed(run: Run, turn: Turn) -> str:
    """Start the phase in a process of its own and kill it once it has begun to write."""
    folder = run.directory.root / turn.path
    arguments = [turn.phase.name, "--run_dir", str(run.directory.root)]
    killed("pipelines.phase", arguments, lambda: any(folder.glob("videos/*")))
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
    """What became of the refresh; again, with labels enough for a whole step, where the judge gave too few."""
    folder = run.directory.root / turn.path
    summary = read_summary(RefreshSummary, folder)
    told = f"{summary.status}: {summary.reason}" if summary.reason else summary.status
    if not (folder / "labels.parquet").exists() or summary.status != "off":
        return told
    if not (labels := _labels(run, turn)):
        return told
    shutil.rmtree(folder)
    enough = itertools.islice(itertools.cycle(labels), run.config.refresh.training.items_per_step)
    write_records(folder / "labels.parquet", enough, LabelledPair, root=run.directory.root)
    turn.do(run)
    return f"{read_summary(RefreshSummary, folder).status}, on labels that are repeated or made up to fill a step"


def _labels(run: Run, turn: Turn) -> list[LabelledPair]:
    """The judge's labels of new videos against old ones, of prompts to learn from; made up where it gave none."""
    kept = read_records(LabelledPair, run.directory.root / turn.path / "labels.parquet", root=run.directory.root)
    withheld, source = {prompt.id for prompt in run.split.withheld()}, f"across {turn.round_number}"
    found = [label for label in kept if label.source == source and label.prompt.id not in withheld]
    before, after = (run.samples("sample", number) for number in (turn.round_number - 1, turn.round_number))
    old = {sample.prompt_id: sample.video for sample in before}
    prompts = {prompt.id: prompt for prompt in run.prompts}
    return found or [
        LabelledPair(
            prompt=prompts[new.prompt_id], first=new.video, second=old[new.prompt_id], preferred="first", source=source
        )
        for new in after
        if new.prompt_id in old and new.prompt_id not in withheld
    ]


def _generator(run: Run, kept: list[Any]) -> str:
    generator: Any = run.generator(0)
    kept.append(generator)
    return described(generator.pipeline.components)


def _judge(run: Run) -> str:
    return _models(run.judge(0))


def _models(judge: Any) -> str:
    model = getattr(judge, "model", None)
    return described({"judge": model}) if isinstance(model, nn.Module) else f"{type(judge).__name__}, no model here"


def _extrapolated(
    config: RunConfig, run: Run, seconds: dict[str, float], prompts: tuple[int, int], found: Rehearsal
) -> None:
    """Hours, disk and rent of the whole run, by what the rehearsed one took: each phase grows with what it counts."""
    small = counted(run.config, 2, 2)
    whole = counted(config, *prompts)
    units = {
        "sample": "videos of rounds", "rank": "rank rollouts", "align": "denoiser forwards (alignment)",
        "measure": "videos of score", "score": "score rollouts", "refresh": "GRPO rollouts", "audit": "audit rollouts",
    }  # fmt: skip
    hours: dict[str, float] = {}
    for phase, took in seconds.items():
        rounds = run.config.rounds if phase in ("sample", "rank", "align", "measure") else 1
        each = took * rounds / max(small[units[phase]], 1)
        hours[phase] = each * whole[units[phase]] / 3600
    found.reckon(hours, "The whole run")
    folder = run.folder("sample", 0)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 4
    videos = whole["videos of rounds"] + whole["videos of score"] + whole["videos of VBench"]
    found.need("videos and latents", size * videos, config.run_dir, "--run_dir")
