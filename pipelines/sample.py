"""Draw a round's videos: ``python -m pipelines.sample --run_dir RUN --round R``."""

from generators.sampling import SamplingItem, sample_videos
from pipelines.phase import phase_main
from pipelines.run import Run
from videoduet.progress import track
from videoduet.seeding import seed_for


def sample(run: Run, round: int) -> None:
    """N videos for each training prompt from G_round, with their final latents."""
    output, config = run.directory.phase("sample", round), run.config.generator
    items = [
        SamplingItem(prompt, index, seed_for(run.config.seed, "sample", round, prompt.id, index))
        for prompt in run.prompts
        for index in range(config.videos_per_prompt)
    ]
    state = run.processes
    drawn = sample_videos(
        run.generator(round),
        items,
        output,
        run.directory.root,
        version=f"G_{round}",
        round=round,
        batch_size=config.batch_size,
        process=state.process_index,
        processes=state.num_processes,
    )
    for _ in track(drawn, f"round {round}: sample", total=len(items) // state.num_processes, advance=int):
        pass
    state.wait_for_everyone()
    if state.is_main_process:
        run.directory.finish(output, samples=len(items))


if __name__ == "__main__":
    phase_main(sample, __doc__)
