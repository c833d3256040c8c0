"""Refresh the judge on a round's videos (VQ-Insight, stage 3): GRPO on new win/lose pairs and its original data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.loop.config import RefreshConfig
from pipelines.loop.labels import Generated, generated_labels
from pipelines.loop.summaries import RefreshFigures, RefreshSummary, write_summary
from reward_model.judging.base import PairwiseJudge
from reward_model.prompts import JudgePrompt
from reward_model.training.refresh import accuracy, mixture, read_labelled_pairs
from reward_model.training.trainer import train_judge
from videoduet.config import resolve
from videoduet.processes import processes
from videoduet.progress import console, track_steps
from videoduet.records import LabelledPair, Prompt, VideoPair
from videoduet.store import read_records, write_records
from videoduet.workspace import Workspace


@dataclass(frozen=True)
class Refresh:
    """What a refresh needs.

    Attributes:
        config: How.
        source: Gives the directory or hub id of D_0, and what it is asked; None where the judge is no model that could
            be trained here.
        adapter: The LoRA of D_(r - 1) on it.
        before: Loads D_(r - 1).
        after: Loads the judge with the LoRA in a folder.
        generated: Gives the videos and pairs that are there to label.
        withheld: Prompts that never refresh the judge.
        output: The phase's folder.
        seed: Seed of this refresh.
        round_number: r.
    """

    config: RefreshConfig
    source: Callable[[], tuple[str, JudgePrompt]] | None
    adapter: Path | None
    before: Callable[[], PairwiseJudge]
    after: Callable[[Path], PairwiseJudge]
    generated: Callable[[], Generated]
    withheld: Sequence[Prompt]
    output: Path
    seed: int
    round_number: int


def refresh_judge(task: Refresh, directory: Workspace) -> None:
    """GRPO-train D_(r - 1) on new win/lose pairs and original data; kept only if it holds up on unseen pairs."""
    reason = _why_off(task.config, task.source is not None)
    if reason is not None or task.source is None:
        _finish(task, directory, RefreshSummary(status="off", reason=reason))
        return
    labels = _labels(task, directory)
    held_out_ids = {prompt.id for prompt in task.withheld}
    known = [pair for pair in labels if pair.prompt.id not in held_out_ids]
    new, within = ([pair for pair in known if pair.source.startswith(kind)] for kind in ("across", "within"))
    training = task.config.training
    original = read_labelled_pairs(resolve(task.config.original_data or ""))
    pairs = mixture(new, within, original, share=task.config.original_share, seed=task.seed)
    if not new:
        reason = "The judge preferred no new video to the loser before it."
    elif len(pairs) < training.items_per_step:
        reason = f"There are {len(pairs)} labelled pairs, fewer than the {training.items_per_step} of one step."
    if reason is not None:
        _finish(task, directory, RefreshSummary(status="off", reason=reason))
        return
    path, prompt = task.source()
    training = training.for_items(len(pairs))
    with track_steps(f"round {task.round_number}: refresh") as on_step:
        trained = train_judge(
            path,
            pairs,
            task.output,
            training,
            seed=task.seed,
            prompt=prompt,
            adapter=task.adapter,
            on_step=lambda step: on_step({"step": step, "steps": training.steps}),
        )
    summary = None
    if processes().is_main_process:
        unseen = [pair for pair in labels if pair.prompt.id in held_out_ids]
        for note in trained.get("notes", ()):
            console.print(f"round {task.round_number}: refresh: {note}", markup=False, soft_wrap=True)
        summary = _gate(task, unseen, {**trained, "new_pairs": len(new), "within_pairs": len(within)})
    _finish(task, directory, summary)


def _why_off(config: RefreshConfig, trainable: bool) -> str | None:
    if not config.enabled:
        return "The config says so (refresh.enabled)."
    if not trainable:
        return "The judge is no model that could be trained here (judge.factory, or judge.backend server or vllm)."
    if config.original_data is None or config.held_out_data is None:
        return "There is none of the judge's original data to keep it honest (refresh.original_data, held_out_data)."
    return None


def _labels(task: Refresh, directory: Workspace) -> list[LabelledPair]:
    """What D_(r - 1) says of the round's videos, asked once and kept."""
    file = task.output / "labels.parquet"
    if processes().is_main_process and not file.exists():
        console.print(f"round {task.round_number}: labels for the refresh", markup=False)
        labels = generated_labels(task.generated(), task.before(), task.round_number)
        write_records(file, labels, LabelledPair, root=directory.root)
    processes().wait_for_everyone()
    return read_records(LabelledPair, file, root=directory.root)


def _finish(task: Refresh, directory: Workspace, summary: RefreshSummary | None) -> None:
    """Keep the summary (the main process's) and mark the phase done."""
    if processes().is_main_process and summary is not None:
        write_summary(task.output, summary)
        directory.finish(task.output, status=summary.status)
    processes().wait_for_everyone()


def _gate(task: Refresh, unseen: list[LabelledPair], trained: dict) -> RefreshSummary:
    """Compare the judge before and after on pairs that neither learned from; says whether the new one is kept."""
    before, after = task.before(), task.after(task.output / "adapter")
    sets = {"original": read_labelled_pairs(resolve(task.config.held_out_data or "")), "generated": unseen}
    tolerances = {"original": task.config.tolerance_original, "generated": task.config.tolerance_generated}
    held_out, reasons = {}, []
    for name, pairs in sets.items():
        if not pairs:
            continue
        old, new = accuracy(before, pairs), accuracy(after, pairs)
        held_out[name] = {
            "before": old["accuracy"],
            "after": new["accuracy"],
            "n": len(pairs),
            "abstention_before": old["abstention"],
            "abstention_after": new["abstention"],
        }
        if old["accuracy"] - new["accuracy"] > tolerances[name]:
            reasons.append(f"accuracy on {name} pairs fell from {old['accuracy']:.2f} to {new['accuracy']:.2f}")
    newer, asked = newer_preferred(task.generated().version_pairs(), before, after)
    return RefreshSummary(
        status="kept_previous" if reasons else "accepted",
        reason=" and ".join(reasons) + "; the judge before is kept." if reasons else None,
        figures=RefreshFigures(held_out=held_out, newer_preferred_rate=newer, newer_preferred_n=asked, **trained),
    )


def newer_preferred(
    pairs: Sequence[VideoPair], before: PairwiseJudge, after: PairwiseJudge
) -> tuple[float | None, int]:
    """How often ``after`` prefers the first, newer, video of pairs between which ``before`` saw no difference (None:
    it decided none), and how many it decided.
    """
    by_ids = {(pair.first.id, pair.second.id): pair for pair in pairs}
    equal = [by_ids[c.first_id, c.second_id] for c in before.compare(pairs) if c.status in ("tie", "disagreement")]
    decided = [c for c in after.compare(equal) if c.preferred_id is not None]
    newer = sum(c.preferred_id == c.first_id for c in decided)
    return (newer / len(decided) if decided else None), len(decided)
