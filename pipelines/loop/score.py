"""Measure every generator version after the last round: ``python -m pipelines.score --run_dir RUN``."""

from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.phase import phase_main
from pipelines.loop.run import Run
from pipelines.loop.vbench import score_vbench, stop_if_still
from reward_model.judging.local import PairwiseJudge
from videoduet.intervals import wilson_interval
from videoduet.progress import track
from videoduet.records import Comparison, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_json, write_records


def score(run: Run, round: int = 0) -> None:
    """Held-out prompts drawn by the base and each G_r from the same noise, compared by three judges.

    *judge* is the last D, *frozen_judge* is D_0, *second_judge* was trained apart and never gave a label.
    """
    output, versions = run.directory.phase("score"), run.config.rounds + 1
    items = [
        SamplingItem(prompt, index, seed_for(run.config.seed, "score", prompt.id, index))
        for prompt in run.held_out_prompts
        for index in range(run.config.score.videos_per_prompt)
    ]
    state = run.processes
    for version in range(versions):
        drawn = sample_videos(
            run.generator(version),
            items,
            output,
            run.directory.root,
            version=f"G_{version}",
            round=version,
            batch_size=run.config.generator.batch_size,
            process=state.process_index,
            processes=state.num_processes,
        )
        for _ in track(drawn, f"score: sample G_{version}", total=len(items) // state.num_processes, advance=int):
            pass
    state.wait_for_everyone()
    if state.is_main_process:
        run.readable(sample.video for sample in read_samples(output))
        win_rate = {name: _win_rates(run, name, judge) for name, judge in _judges(run)}
        names = [f"G_{version}" for version in range(versions)]
        vbench = score_vbench(run, names)
        write_json(output / "summary.json", {"versions": names, "win_rate": win_rate, "vbench": vbench})
        stop_if_still(run, vbench)
        run.directory.finish(output, samples=len(items) * versions)


def _judges(run: Run):
    """The judges that measure, loaded one at a time."""
    yield "judge", run.judge(run.config.rounds - 1)
    if run.config.judge.path is not None:
        yield "frozen_judge", run.load_judge(run.config.judge.path)
    if run.config.judge.second_path is not None:
        yield "second_judge", run.load_judge(run.config.judge.second_path)


def _win_rates(run: Run, name: str, judge: PairwiseJudge) -> dict:
    """Win rate of each version over the base, with 95 % intervals; an abstention counts ½."""
    output, rates = run.directory.phase("score"), {}
    base = {(sample.prompt_id, sample.index): sample for sample in read_samples(output, "G_0")}
    prompts, quarantined = {prompt.id: prompt for prompt in run.held_out_prompts}, run.directory.quarantined()
    for version in range(1, run.config.rounds + 1):
        path = output / f"comparisons_{name}_G_{version}.parquet"
        if not path.exists():
            pairs = [
                VideoPair(prompt=prompts[s.prompt_id], first=s.video, second=base[s.prompt_id, s.index].video)
                for s in read_samples(output, f"G_{version}")
                if s.id != base[s.prompt_id, s.index].id
                and not {s.video_path, base[s.prompt_id, s.index].video_path} & quarantined
            ]
            results = list(track(run.compare(judge, pairs), f"score: {name} on G_{version}", total=len(pairs)))
            write_records(path, results, Comparison)
        comparisons, total = read_records(Comparison, path), len(base)
        won = sum(c.preferred_id == c.first_id for c in comparisons)
        lost = sum(c.preferred_id == c.second_id for c in comparisons)
        rate = (won + 0.5 * (total - won - lost)) / total
        low, high = wilson_interval(rate, total)
        rates[f"G_{version}"] = {"rate": rate, "low": low, "high": high, "decided": won + lost, "total": total}
    return rates


if __name__ == "__main__":
    phase_main(score, __doc__)
