"""Diffusion-DPO of the generator on a round's pairs: ``python -m pipelines.align --run_dir RUN --round R``."""

from alignment.training.trainer import align as train
from generators.loading import load_generator
from generators.sampling import read_samples
from pipelines.loop.phase import phase_main
from pipelines.loop.rank import rank_summary
from pipelines.loop.run import Run
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.records import PreferencePair
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_json


def align(run: Run, round: int) -> None:
    """Train G_round on its ranked pairs into G_(round + 1); skipped, with the reason, where the judge gave none."""
    output, config = run.directory.phase("align", round), run.config.generator
    skipped = rank_summary(run, round)["skipped"]
    if skipped:
        write_json(output / "summary.json", {"status": "skipped", "reason": skipped})
        run.directory.finish(output, pairs=0)
        return
    pairs = read_records(PreferencePair, run.directory.phase("rank", round) / "pairs.parquet")
    samples = {sample.id: sample for sample in read_samples(run.directory.phase("sample", round))}
    path = resolve(config.path)
    # The plain base: the adapter so far is continued by the trainer, not merged.
    generator = load_generator(path, sampler=config.sampler, dtype=config.dtype, device=run.device)
    console.print(f"round {round}: align on {len(pairs)} pairs", markup=False)
    summary = train(
        generator,
        pairs,
        samples,
        {prompt.id: prompt for prompt in run.prompts},
        config=run.config.align,
        seed=seed_for(run.config.seed, "align", round),
        run_dir=run.directory.root,
        output_dir=output,
        adapter=run.generator_adapter(round),
        base=path,
        events=run.directory.root / "events" / f"align_{round:02d}",
    )
    run.processes.wait_for_everyone()
    if run.processes.is_main_process:
        last = {name: value for name, value in summary["last_step"].items() if name not in ("step", "skipped")}
        write_json(output / "summary.json", {**summary, "status": "trained", "reason": None, **last})
        run.directory.finish(output, pairs=len(pairs), steps=summary["steps"])


if __name__ == "__main__":
    phase_main(align, __doc__)
