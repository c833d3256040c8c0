"""Refresh the judge on a round's videos (VQ-Insight, stage 3): GRPO on new win/lose pairs and its original data."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.loop.audit import Audit, lost, verdicts
from pipelines.loop.gate import GateSet, measured, newer_preferred, second_labels
from pipelines.loop.judge_config import RefreshConfig
from pipelines.loop.labels import Generated, generated_labels
from pipelines.loop.paper_labels import paper_labels
from pipelines.loop.summaries import AuditSummary, RefreshFigures, RefreshSummary, write_summary
from pipelines.loop.tournament import play, played
from reward_model.judging.base import PairwiseJudge
from reward_model.prompts import JudgePrompt
from reward_model.training.refresh import mixture, read_labelled_pairs
from reward_model.training.trainer import train_judge
from reward_model.training.united import OwnData, items_of, read_own_data, train_united, united
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.machines import ALONE, Machine
from videoduet.processes import processes
from videoduet.progress import console, track_steps
from videoduet.records import Comparison, LabelledPair, Prompt, Sample
from videoduet.store import read_records, write_records
from videoduet.workspace import Workspace

NOTHING = {
    "agreed": "The judge preferred no new video to the loser before it.",
    "paper": "The judge picked no new video: it follows position, or nothing that it said could be read.",
}
"""Why there is nothing to learn from, by ``refresh.labels``."""


@dataclass(frozen=True)
class Refresh:
    """What a refresh needs.

    Attributes:
        config: How.
        off: Why there is none (None: there is).
        source: Gives the directory or hub id of D_0, and what it is asked.
        adapter: The LoRA of D_(r - 1) on it.
        before: Loads D_(r - 1).
        after: Loads the judge with the LoRA in a folder.
        second: Loads the judge that the gate measures by (None: there is none).
        generated: Gives the videos and pairs that are there to label.
        samples: Gives this round's readable samples.
        previous: Gives all comparisons of the round before.
        withheld: Prompts that never refresh the judge.
        output: The phase's folder.
        root: The run's, to which paths in records are relative.
        seed: Seed of this refresh.
        round_number: r.
        audit: How the new judge is audited (None: it is not).
        passed: What is known of D_(r - 1) from its audit (None: nothing).
        machine: Which part of the comparisons this machine asks for; the first does the rest.
    """

    config: RefreshConfig
    off: str | None
    source: Callable[[], tuple[str, JudgePrompt]]
    adapter: Path | None
    before: Callable[[], PairwiseJudge]
    after: Callable[[Path], PairwiseJudge]
    second: Callable[[], PairwiseJudge] | None
    generated: Callable[[], Generated]
    samples: Callable[[], Sequence[Sample]]
    previous: Callable[[], Sequence[Comparison]]
    withheld: Sequence[Prompt]
    output: Path
    root: Path
    seed: int
    round_number: int
    audit: Audit | None = None
    passed: AuditSummary | None = None
    machine: Machine = ALONE


def refresh_judge(task: Refresh, directory: Workspace) -> None:
    """GRPO-train D_(r - 1) on new win/lose pairs and original data; kept only if it holds up on unseen pairs.

    A machine that is not the first does its part of what is compared for the paper's labels, and no more.
    """
    if not task.machine.first:
        if task.off is None and task.config.labels == "paper":
            _play(task)
        return
    if task.off is not None:
        _finish(task, directory, RefreshSummary(status="off", reason=task.off))
        return
    labels = _labels(task)
    held_out_ids = {prompt.id for prompt in task.withheld}
    known = [pair for pair in labels if pair.prompt.id not in held_out_ids]
    new, within = ([pair for pair in known if pair.source.startswith(kind)] for kind in ("across", "within"))
    config = task.config
    own = None
    if config.data:
        own = read_own_data(config.data, task.seed, config.original_data, config.held_out_data)
    original = read_labelled_pairs(resolve(config.original_data or "")) if own is None else []
    pairs = mixture(new, within, original, share=config.original_share if own is None else 0.0, seed=task.seed)
    reason: str | None = None
    if not new:
        reason = NOTHING[config.labels]
    elif own is None and len(pairs) < config.training.items_per_step:
        reason = f"There are {len(pairs)} labelled pairs, fewer than the {config.training.items_per_step} of one step."
    if reason is not None:
        _finish(task, directory, RefreshSummary(status="off", reason=reason))
        return
    trained = _trained(task, pairs, own)
    # The gate loads judges of its own: a trainer that is dropped is not freed at once.
    gc.collect()
    summary = None
    if processes().is_main_process:
        for note in trained.get("notes", ()):
            console.print(f"round {task.round_number}: refresh: {note}", markup=False, soft_wrap=True)
        held_out = read_labelled_pairs(resolve(config.held_out_data or "")) if own is None else own.held_out
        summary = _gate(task, labels, held_out, {**trained, "new_pairs": len(new), "within_pairs": len(within)})
    _finish(task, directory, summary)


def _trained(task: Refresh, pairs: list[LabelledPair], own: OwnData | None) -> dict:
    """GRPO on generated pairs, and on the original ones among them or beside them."""
    path, prompt = task.source()
    training = task.config.training
    with track_steps(f"round {task.round_number}: refresh") as on_step:
        if own is None:
            training = training.for_items(len(pairs))
            return train_judge(
                path, pairs, task.output, training, seed=task.seed, prompt=prompt, adapter=task.adapter,
                on_step=lambda step: on_step({"step": step, "steps": training.steps}),
            )  # fmt: skip
        ingredients = united(pairs, own.train, task.config.original_share)
        training = training.for_items(items_of(ingredients))
        return train_united(
            path, ingredients, task.output, training, rewards=task.config.rewards, prompt=prompt, seed=task.seed,
            adapter=task.adapter, on_step=lambda step: on_step({"step": step, "steps": training.steps}),
        )  # fmt: skip


def _labels(task: Refresh) -> list[LabelledPair]:
    """What D_(r - 1) says of the round's videos, asked once and kept."""
    file, paper = task.output / "labels.parquet", task.config.labels == "paper"
    if paper:
        _play(task)
    if processes().is_main_process and not file.exists():
        if paper:
            labels = paper_labels(task.generated(), played(task.output), task.previous(), task.round_number)
        else:
            console.print(f"round {task.round_number}: labels for the refresh", markup=False)
            labels = generated_labels(task.generated(), task.before(), task.round_number)
        write_records(file, labels, LabelledPair, root=task.root)
    processes().wait_for_everyone()
    return read_records(LabelledPair, file, root=task.root)


def _play(task: Refresh) -> None:
    """All comparisons of the prompts that it learns from: this machine's part."""
    withheld = {prompt.id for prompt in task.withheld}
    learning = [prompt for prompt in task.generated().refreshing if prompt.id not in withheld]
    title = f"round {task.round_number}: labels for the refresh"
    play(task.before, learning, task.samples(), task.output, title, machine=task.machine)


def _finish(task: Refresh, directory: Workspace, summary: RefreshSummary | None) -> None:
    """Keep the summary (the main process's) and mark the phase done."""
    if processes().is_main_process and summary is not None:
        write_summary(task.output, summary)
        directory.finish(task.output, status=summary.status)
    processes().wait_for_everyone()


def _gate(task: Refresh, labels: list[LabelledPair], held_out: Sequence[LabelledPair], trained: dict) -> RefreshSummary:
    """Compare the judge before and after on pairs that neither learned from; says whether the new one is kept."""
    sets = [GateSet("original", held_out, task.config.tolerance_original), *_generated_set(task, labels)]
    before, after = task.before(), task.after(task.output / "adapter")
    figures, reasons = measured(before, after, sets)
    newer, asked = newer_preferred(task.generated().version_pairs(), before, after)
    audited, fallen = ({}, []) if reasons else _audited(task, after)
    reasons += fallen
    return RefreshSummary(
        status="kept_previous" if reasons else "accepted",
        reason=" and ".join(reasons) + "; the judge before is kept." if reasons else None,
        figures=RefreshFigures(
            held_out=figures, newer_preferred_rate=newer, newer_preferred_n=asked, audited=audited, **trained
        ),
    )


def _audited(task: Refresh, after: PairwiseJudge) -> tuple[dict[str, str], list[str]]:
    """The verdicts on the new judge, and a sentence's part for each probe that it lost; nothing where the judge before
    has no card to compare with.
    """
    if task.audit is None or task.passed is None or not task.passed.verdicts:
        return {}, []
    console.print(f"round {task.round_number}: audit of the refreshed judge", markup=False)
    try:
        card = task.audit.card(after, task.output)
    except InputError as error:
        return {}, [str(error).rstrip(".")]
    return verdicts(card), lost(task.passed.verdicts, card)


def _generated_set(task: Refresh, labels: list[LabelledPair]) -> list[GateSet]:
    """Generated pairs of prompts that refresh nobody, where there are labels for them: of a second judge, whose answers
    are kept, or of the judge before where both orders agreed. What it picked alone says nothing about it.
    """
    config, file = task.config, task.output / "second_labels.parquet"
    if task.second is not None:
        if not file.exists():
            found = second_labels(task.second(), task.generated(), task.withheld, f"second judge {task.round_number}")
            write_records(file, found, LabelledPair, root=task.root)
        pairs = read_records(LabelledPair, file, root=task.root)
        return [GateSet("second judge's", pairs, config.tolerance_generated)]
    if config.labels == "paper":
        return []
    withheld = {prompt.id for prompt in task.withheld}
    return [GateSet("generated", [p for p in labels if p.prompt.id in withheld], config.tolerance_generated)]
