"""Does the closed loop work? ``python -m benchmarks.closed_loop [--output DIR] [--seeds 3]``.

For each run seed the default recipe is run whole (*full*), without the judge's refresh (*no_refresh*), with a judge
that flips a coin (*coin_flip*), and with one that always says "first" (*always_first*). The other recipes of
``benchmarks.recipes`` are run with the judge's labels and with a coin's, and so is fine-tuning alone: on the chosen, on
the rejected, and on the generator's own samples whoever chose them (*random_own*). All arms of a seed share the base
samples. The oracle then measures base against aligned videos of held-out prompts from the same noise, VIDEOS of each
prompt, which is one case. ``--arms`` runs some of them; *full* is always one.

Arms run side by side, each on one core, and write what they do to ``log.txt`` beside them. Interrupted, the same
command goes on.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import CLI
from rich.table import Table

from benchmarks.closed_loop_arms import ARMS, TWINS
from benchmarks.own_samples import held_out_scores
from benchmarks.recipes import gains
from benchmarks.workers import finish, logged, workers
from pipelines.loop.config import parse
from pipelines.loop.run import Run
from pipelines.loop.summaries import AlignSummary, RefreshSummary, read_summary
from pipelines.united_finetune import run_loop
from shapes_world.oracle import DIMENSIONS, oracle_score, overall
from videoduet.progress import console
from videoduet.records import Comparison, Sample, VideoPair
from videoduet.store import atomic_path, read_json, write_json
from videoduet.video import read_video

VIDEOS = 8
EQUAL, CLEAR = 0.02, 0.1
"""Oracle gaps: clips closer than the one are equals, pairs further apart than the other have a clear winner."""


def run_arm(name: str, seed: int, output: Path) -> Run:
    """The finished run of one arm, which shares with the full arm what both have."""
    change, shared = ARMS[name]
    config, _ = parse(["--seed", str(seed), "--run_dir", str(output / f"seed_{seed}" / name)])
    target, full = Path(config.run_dir), output / f"seed_{seed}" / "full"
    for part in shared:
        if not (target / part).exists():
            with atomic_path(target / part) as temporary:
                shutil.copytree(full / part, temporary, copy_function=os.link)
    return run_loop(change(config))


def measure_arm(arm: str, seed: int, output: Path) -> dict:
    """Run one arm (a process of its own calls this) and measure it; kept in ``measured.json``, so never done twice."""
    directory = output / f"seed_{seed}" / arm
    if (file := directory / "measured.json").exists():
        return read_json(file)
    with logged(directory / "log.txt"):
        run = run_arm(arm, seed, output)
        measured: dict[str, Any] = {"cases": measure(run, output / f"seed_{seed}" / "base.json")}
        if arm == "full":
            measured["refresh"] = measure_refresh(run)
        aligned = [read_summary(AlignSummary, run.folder("align", number)) for number in range(run.config.rounds)]
        measured["skipped"] = [summary.reason for summary in aligned if summary.status == "skipped"]
        measured["notes"] = [note for summary in aligned for note in summary.figures.get("notes", [])]
        measured["rounds"] = len(aligned)
    write_json(file, measured)
    return measured


def _oracle(run: Run, samples: list[Sample]) -> dict[tuple[str, int], dict[str, float]]:
    prompts = {prompt.id: prompt.text for prompt in (*run.prompts, *run.held_out_prompts)}
    return {
        (s.prompt_id, s.index): oracle_score(read_video(s.video_path).frames, prompts[s.prompt_id]) for s in samples
    }


def _overall(run: Run, samples: list[Sample]) -> dict[tuple[str, int], float]:
    return {case: overall(scores) for case, scores in _oracle(run, samples).items()}


def measure(run: Run, kept: Path) -> dict:
    """Oracle scores of base and last version on held-out prompts (:func:`scores`); those of the base are ``kept``."""
    prompts = [prompt.text for prompt in run.held_out_prompts]
    first = 300_000_000 + 1_000_000 * run.config.seed
    if not kept.exists():
        write_json(kept, held_out_scores(run.generator(0), prompts, VIDEOS, first).tolist())
    last = held_out_scores(run.generator(run.config.rounds), prompts, VIDEOS, first)
    return scores(*([_named(video) for row in part for video in row] for part in (read_json(kept), last.tolist())))


def _named(values: list[float]) -> dict[str, float]:
    return dict[str, float](zip(DIMENSIONS, values, strict=True))


def scores(base: Sequence[dict[str, float]], aligned: Sequence[dict[str, float]]) -> dict:
    """Oracle scores of videos from the same noise before and after: *base* and *aligned*, a list of overall scores
    each, and *base_dimensions* and *aligned_dimensions*, for each video a list of its scores by dimension.
    """
    both = {"base": base, "aligned": aligned}
    return {name: [overall(score) for score in part] for name, part in both.items()} | {
        f"{name}_dimensions": [[score[dimension] for dimension in DIMENSIONS] for score in part]
        for name, part in both.items()
    }


def measure_refresh(run: Run) -> dict:
    """What the refreshed judge does: newer version between equals, and accuracy on clear pairs within one version.

    The clear pairs are of prompts that did not refresh it. Values are means over a prompt's decided pairs, which share
    their clips and so are no cases of their own.
    """
    judges = {"D_0": run.judge(0), "D_1": run.judge(1)}
    samples = [run.samples("sample", number) for number in (0, 1)]
    overalls = [_overall(run, group) for group in samples]
    prompts = {prompt.id: prompt for prompt in (*run.prompts, *run.held_out_prompts)}
    newer = {(s.prompt_id, s.index): s.video for s in samples[1]}
    equals = [
        VideoPair(prompt=prompts[s.prompt_id], first=newer[other], second=s.video)
        for s in samples[0]
        for other in newer
        if other[0] == s.prompt_id and abs(overalls[0][s.prompt_id, s.index] - overalls[1][other]) < EQUAL
    ]
    equals = [equals[index] for index in np.random.default_rng(run.config.seed).permutation(len(equals))[:300]]
    unseen = [
        (VideoPair(prompt=prompt, first=one.video, second=other.video), gap)
        for prompt in run.split.withheld()
        for one, other in itertools.combinations([s for s in samples[1] if s.prompt_id == prompt.id], 2)
        if abs(gap := overalls[1][prompt.id, one.index] - overalls[1][prompt.id, other.index]) >= CLEAR
    ]
    gaps = {(pair.first.id, pair.second.id): gap for pair, gap in unseen}
    status = read_summary(RefreshSummary, run.folder("refresh", 1)).status
    results = {"equals": len(equals), "unseen": len(unseen), "status": status}
    for name, judge in judges.items():
        decided = [c for c in judge.compare(equals) if c.preferred_id is not None]
        results[f"{name} prefers newer"] = _by_prompt(decided, lambda c: c.preferred_id == c.first_id)
        decided = [c for c in judge.compare([pair for pair, _ in unseen]) if c.preferred_id is not None]
        results[f"{name} right within a version"] = _by_prompt(
            decided, lambda c: (c.preferred_id == c.first_id) == (gaps[c.first_id, c.second_id] > 0)
        )
    return results


def _by_prompt(comparisons: list[Comparison], value: Callable[[Comparison], bool]) -> list[float]:
    values: dict[str, list[bool]] = {}
    for comparison in comparisons:
        values.setdefault(comparison.prompt_id, []).append(value(comparison))
    return [float(np.mean(group)) for group in values.values()]


def bootstrap(values: list[list[float]], draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval of per-case values, one list a run seed: seeds are resampled, then cases within each."""
    rng, groups = np.random.default_rng(seed), [np.asarray(group, float) for group in values if len(group)]
    means = [
        np.mean([rng.choice(groups[i], len(groups[i])).mean() for i in rng.integers(len(groups), size=len(groups))])
        for _ in range(draws)
    ]
    return float(np.mean([group.mean() for group in groups])), *map(float, np.percentile(means, (2.5, 97.5)))


def oracle_wins(case: dict, over: dict | None = None) -> list[float]:
    """1 where the aligned video beats the base's by the oracle (or that of the case ``over``), ½ where they are the
    same.
    """
    others = case["base"] if over is None else over["aligned"]
    return [0.5 * (np.sign(a - b) + 1) for a, b in zip(case["aligned"], others, strict=True)]


def wins_by_prompt(case: dict) -> list[float]:
    """Oracle wins over the base of each prompt's VIDEOS, as :func:`measure` made them, on average."""
    return np.reshape(oracle_wins(case), (-1, VIDEOS)).mean(1).tolist()


Cases = dict[str, dict[int, dict]]
"""What each arm came to: by run seed, oracle scores as :func:`scores` gives them."""


def differences(results: Cases, arm: str, over: str | None = None, videos: int = 1) -> dict[str, list[list[float]]]:
    """By dimension, their mean, and *wins*: what ``arm`` has over the base, or over the arm ``over``; one list a
    seed. ``videos`` neighbours are of one prompt, and make one value.
    """
    rows: dict[str, list[list[float]]] = {}
    for seed, case in results[arm].items():
        other = None if over is None else results[over][seed]
        for name, values in {**gains(case, other), "wins": oracle_wins(case, other)}.items():
            rows.setdefault(name, []).append(np.reshape(values, (-1, videos)).mean(1).tolist())
    return rows


def _cell(values: list[list[float]]) -> str:
    mean, low, high = bootstrap(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def worth_table(results: Cases, twins: dict[str, str], title: str, videos: int = 1) -> Table:
    """What each arm gains over the base and each recipe over its twin, by dimension, with 95 % intervals over cases
    (of ``videos`` each).
    """
    names = (*DIMENSIONS, "mean", "wins")
    table = Table("what", *names, title=title)
    for arm in results:
        gained = differences(results, arm, None, videos)
        table.add_row(arm, *(_cell(gained[name]) for name in names))
    for arm, twin in twins.items():
        if arm in results and twin in results:
            gained = differences(results, arm, twin, videos)
            table.add_row(f"{arm} - {twin}", *(_cell(gained[name]) for name in names))
    return table


def report(results: Cases, refresh: list[dict]) -> None:
    """Print the tables of all arms, with intervals over cases."""
    table = Table("what", "mean", "95 % interval", "cases", title="Oracle win rate over the base; the judge's refresh")
    wins = {arm: [wins_by_prompt(case) for case in cases.values()] for arm, cases in results.items()}

    def row(name: str, values: list[list[float]]) -> None:
        mean, low, high = bootstrap(values)
        table.add_row(name, f"{mean:.3f}", f"{low:.3f} to {high:.3f}", " + ".join(str(len(group)) for group in values))

    for arm, values in wins.items():
        row(arm, values)
    for other in ("coin_flip", "no_refresh"):
        if other in wins:
            row(f"full - {other}", [np.subtract(a, b).tolist() for a, b in zip(wins["full"], wins[other], strict=True)])
    for name in refresh[0]:
        if isinstance(refresh[0][name], list):
            row(name, [seed[name] for seed in refresh])
    console.print(table)
    console.print(worth_table(results, TWINS, "Gain of the mean oracle over the base, and over the twin", VIDEOS))


def run_arms(arms: Sequence[str], seeds: int, output: Path, jobs: int) -> dict[tuple[str, int], dict]:
    """What :func:`measure_arm` gives for each arm and seed; arms wait for the full one, whose samples they share."""
    others = [arm for arm in arms if arm != "full"]
    with workers(jobs) as pool:
        return finish(
            partial(measure_arm, output=output),
            [("full", seed) for seed in range(seeds)],
            lambda arm, seed: [(other, seed) for other in others] if arm == "full" else [],
            pool=pool, total=(1 + len(others)) * seeds, what="arms",
        )  # fmt: skip


def main(
    output: Path = Path("runs/closed_loop"), seeds: int = 3, jobs: int = os.cpu_count() or 1,
    arms: tuple[str, ...] = tuple(ARMS),
) -> None:  # fmt: skip
    """Run arms of all seeds and print the tables; results are kept in ``output/results.json``.

    Args:
        output: Where the runs are kept.
        seeds: Number of run seeds.
        jobs: How many arms run at a time, each on one core.
        arms: Which arms, besides *full*.
    """
    if unknown := set(arms) - set(ARMS):
        sys.exit(f"error: {', '.join(sorted(unknown))} is no arm; give some of {', '.join(ARMS)}.")
    chosen = ["full", *(arm for arm in ARMS if arm in arms and arm != "full")]
    results = run_arms(chosen, seeds, output, jobs)
    for (arm, seed), measured in sorted(results.items()):
        if arm == "always_first":
            assert len(measured["skipped"]) == measured["rounds"], (
                "an always-first judge must give no pairs in any round"
            )
        if arm == "full":
            console.print(f"full, seed {seed}: the refreshed judge was {measured['refresh']['status']}", markup=False)
        for said in (*measured["skipped"], *measured["notes"]):
            console.print(f"{arm}, seed {seed}: {said}", markup=False)
    cases = {arm: {seed: results[arm, seed]["cases"] for seed in range(seeds)} for arm in chosen}
    refresh = [results["full", seed]["refresh"] for seed in range(seeds)]
    write_json(output / "results.json", {"arms": cases, "refresh": refresh})
    report(cases, refresh)


if __name__ == "__main__":
    CLI(main, as_positional=False, description=__doc__)
