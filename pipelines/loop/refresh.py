"""Refresh the judge on a round's videos: ``python -m pipelines.refresh --run_dir RUN --round R``."""

from generators.sampling import read_samples
from pipelines.loop.phase import phase_main
from pipelines.loop.rank import labelled_prompts
from pipelines.loop.run import Run
from reward_model.judging.local import PairwiseJudge
from reward_model.training.refresh import accuracy, best_by_knockout, labels_from, mixture, read_labelled_pairs
from reward_model.training.trainer import train_judge
from videoduet.config import resolve
from videoduet.progress import console, track_steps
from videoduet.records import LabelledPair, PreferencePair, Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_json, write_records


def refresh(run: Run, round: int) -> None:
    """GRPO-train D_(round - 1) on new win/lose pairs and original data; kept only if it holds up on unseen pairs."""
    output, config = run.directory.phase("refresh", round), run.config.refresh
    reason = _why_off(run, round)
    if reason:
        _finish(run, round, {"status": "off", "reason": reason})
        return
    state, data = run.processes, output / "labels.parquet"
    if state.is_main_process and not data.exists():
        run.readable(sample.video for sample in read_samples(run.directory.phase("sample", round)))
        console.print(f"round {round}: labels for the refresh", markup=False)
        labels = generated_labels(run, round, run.judge(round - 1))
        write_records(data, [run.directory.relative_pair(pair) for pair in labels], LabelledPair)
    state.wait_for_everyone()
    labels = [run.directory.absolute_pair(pair) for pair in read_records(LabelledPair, data)]
    held_out_ids = {prompt.id for prompt in withheld_prompts(run)}
    known = [pair for pair in labels if pair.prompt.id not in held_out_ids]
    new, within = ([pair for pair in known if pair.source.startswith(kind)] for kind in ("across", "within"))
    seed = seed_for(run.config.seed, "refresh", round)
    original = read_labelled_pairs(resolve(config.original_data))
    pairs = mixture(new, within, original, share=config.original_share, seed=seed)
    if not new:
        _finish(run, round, {"status": "off", "reason": "The judge preferred no new video to the loser before it."})
        return
    if len(pairs) < config.training.pairs_per_step:
        reason = f"There are {len(pairs)} labelled pairs, fewer than the {config.training.pairs_per_step} of one step."
        _finish(run, round, {"status": "off", "reason": reason})
        return
    with track_steps(f"round {round}: refresh") as on_step:
        training = train_judge(
            resolve(run.config.judge.path),
            pairs,
            output,
            config.training,
            seed=seed,
            adapter=run.judge_adapter(round - 1),
            on_step=lambda step: on_step({"step": step, "steps": config.training.steps}),
        )
    unseen = [pair for pair in labels if pair.prompt.id in held_out_ids]
    summary = _gate(run, round, run.judge(round - 1), unseen) if state.is_main_process else {}
    _finish(run, round, {**summary, **training, "new_pairs": len(new), "within_pairs": len(within)})


def _why_off(run: Run, round: int) -> str | None:
    if not run.config.refresh.enabled:
        return "The config says so (refresh.enabled)."
    if run.config.judge.factory is not None:
        return "The judge is no model that could be trained (judge.factory)."
    if run.config.refresh.original_data is None or run.config.refresh.held_out_data is None:
        return "There is none of the judge's original data to keep it honest (refresh.original_data, held_out_data)."
    return None


def _finish(run: Run, round: int, summary: dict) -> None:
    """Write the summary, by one process of several, and mark the phase done."""
    output = run.directory.phase("refresh", round)
    if run.processes.is_main_process:
        write_json(output / "summary.json", summary)
        run.directory.finish(output, status=summary["status"])
    run.processes.wait_for_everyone()


def withheld_prompts(run: Run) -> list[Prompt]:
    """Prompts that never refresh the judge: the last ones, as many as the config says, at least one."""
    return run.prompts[-max(1, round(len(run.prompts) * run.config.refresh.held_out_prompts)) :]


def _refreshing_prompts(run: Run, round: int) -> list[Prompt]:
    if not run.config.refresh.cross_fit:
        return run.prompts
    others = {prompt.id for prompt in labelled_prompts(run, round)}
    return [prompt for prompt in run.prompts if prompt.id not in others]


def generated_labels(run: Run, round: int, judge: PairwiseJudge) -> list[LabelledPair]:
    """Pairs of generated videos that D_(round - 1) decided in both orders, with absolute paths.

    *across*: the best new video of a prompt, where it is preferred to the loser of the round before. *within*: pairs
    of one version, old (that round's preference pairs) and new (the knockout), so that telling versions apart earns
    nothing.
    """
    prompts = {prompt.id: prompt for prompt in _refreshing_prompts(run, round)}
    new, old = _videos(run, round), _videos(run, round - 1)
    pairs = read_records(PreferencePair, run.directory.phase("rank", round - 1) / "pairs.parquet")
    pairs = [pair for pair in pairs if pair.prompt_id in prompts]
    losers: dict[str, PreferencePair] = {}
    for pair in pairs:
        if pair.prompt_id not in losers or pair.margin > losers[pair.prompt_id].margin:
            losers[pair.prompt_id] = pair
    groups = {prompt_id: list(new[prompt_id].values()) for prompt_id in prompts if prompt_id in new}
    best, played = best_by_knockout(judge, prompts, groups)
    challenges = [
        VideoPair(prompt=prompts[prompt_id], first=best[prompt_id], second=old[prompt_id][pair.rejected_id])
        for prompt_id, pair in losers.items()
        if prompt_id in best and pair.rejected_id in old[prompt_id]
    ]
    videos = {video_id: video for group in (*new.values(), *old.values()) for video_id, video in group.items()}
    won = [c for c in judge.compare(challenges) if c.preferred_id == c.first_id]
    within = labels_from(played, prompts, videos, f"within {round}")
    within += [
        LabelledPair(
            prompt=prompts[pair.prompt_id],
            first=videos[pair.chosen_id],
            second=videos[pair.rejected_id],
            preferred="first",
            source=f"within {round - 1}",
        )
        for pair in pairs
        if pair.chosen_id in videos and pair.rejected_id in videos
    ]
    return [*labels_from(won, prompts, videos, f"across {round}"), *within]


def _videos(run: Run, round: int) -> dict[str, dict[str, Video]]:
    """Readable videos of a round by prompt and id, with absolute paths."""
    videos: dict[str, dict[str, Video]] = {}
    quarantined = run.directory.quarantined()
    for sample in read_samples(run.directory.phase("sample", round)):
        if sample.video_path not in quarantined:
            videos.setdefault(sample.prompt_id, {})[sample.id] = run.directory.absolute(sample.video)
    return videos


def _gate(run: Run, round: int, before: PairwiseJudge, generated: list[LabelledPair]) -> dict:
    """Compare the judge before and after on pairs that neither learned from; says whether the new one is kept."""
    config = run.config.refresh
    after = run.load_judge(run.config.judge.path, run.directory.phase("refresh", round) / "adapter")
    sets = {"original": read_labelled_pairs(resolve(config.held_out_data)), "generated": generated}
    held_out, reasons = {}, []
    tolerances = {"original": config.tolerance_original, "generated": config.tolerance_generated}
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
    return {
        "status": "kept_previous" if reasons else "accepted",
        "reason": " and ".join(reasons) + "; the judge before is kept." if reasons else None,
        "held_out": held_out,
        **_newer_preferred(run, round, before, after),
    }


def _newer_preferred(run: Run, round: int, before: PairwiseJudge, after: PairwiseJudge) -> dict:
    """How often the new judge prefers the newer version where the judge before saw no difference."""
    new, old = _videos(run, round), _videos(run, round - 1)
    pairs = [
        VideoPair(prompt=prompt, first=newer, second=older)
        for prompt in run.prompts
        for newer, older in list(zip(new.get(prompt.id, {}).values(), old.get(prompt.id, {}).values(), strict=False))[
            :2
        ]
    ]
    by_ids = {(pair.first.id, pair.second.id): pair for pair in pairs}
    equal = [by_ids[c.first_id, c.second_id] for c in before.compare(pairs) if c.status in ("tie", "disagreement")]
    decided = [c for c in after.compare(equal) if c.preferred_id is not None]
    newer = sum(c.preferred_id == c.first_id for c in decided)
    return {"newer_preferred_rate": newer / len(decided) if decided else None, "newer_preferred_n": len(decided)}


if __name__ == "__main__":
    phase_main(refresh, __doc__)
