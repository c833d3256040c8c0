"""Diffusion-DPO of the generator on a round's pairs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from alignment.training.config import AlignConfig
from alignment.training.trainer import align
from generators.base import Generator
from pipelines.loop.summaries import AlignSummary, RankSummary, write_summary
from videoduet.processes import processes
from videoduet.progress import console
from videoduet.records import PreferencePair, Prompt, Sample
from videoduet.seeding import seed_for
from videoduet.workspace import Workspace


def align_round(
    load_base: Callable[[], Generator], ranked: tuple[RankSummary, Sequence[PreferencePair]],
    samples: Sequence[Sample], prompts: Sequence[Prompt], output: Path, directory: Workspace, *, config: AlignConfig,
    seed: int, adapter: Path | None, base: str, round_number: int,
) -> None:  # fmt: skip
    """Train G_r on its ranked pairs into G_(r + 1); skipped, with the reason, where the judge gave none.

    ``load_base`` gives the plain base: ``adapter``, what was learned so far, is continued by the trainer, not merged.
    """
    summary, pairs = ranked
    if summary.skipped is not None:
        if processes().is_main_process:
            write_summary(output, AlignSummary(status="skipped", reason=summary.skipped))
            directory.finish(output, pairs=0)
        return
    console.print(f"round {round_number}: align on {len(pairs)} pairs", markup=False)
    figures = align(
        load_base(),
        pairs,
        {sample.id: sample for sample in samples},
        {prompt.id: prompt for prompt in prompts},
        config=config,
        seed=seed_for(seed, "align", round_number),
        output_dir=output,
        adapter=adapter,
        base=base,
        events=directory.root / "events" / f"align_{round_number:02d}",
    )
    processes().wait_for_everyone()
    if processes().is_main_process:
        last = {name: value for name, value in figures["last_step"].items() if name not in ("step", "skipped")}
        write_summary(output, AlignSummary(status="trained", figures={**figures, **last}))
        directory.finish(output, pairs=len(pairs), steps=figures["steps"])
