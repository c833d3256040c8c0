"""Does the closed loop work? ``python -m benchmarks.closed_loop [--output DIR] [--seeds 3]``.

For each run seed the default recipe is run whole (*full*), without the judge's refresh (*no_refresh*), with a judge
that flips a coin (*coin_flip*), and with one that always says "first" (*always_first*). All arms of a seed share the
base samples. The oracle then measures base against aligned videos of held-out prompts from the same noise.

Arms run side by side, each on one core, and write what they do to ``log.txt`` beside them. Interrupted, the same
command goes on.
"""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jsonargparse import CLI
from rich.table import Table

from benchmarks.workers import finish, logged, workers
from pipelines.loop.config import JudgeConfig, RunConfig, parse
from pipelines.loop.run import Run
from pipelines.loop.summaries import AlignSummary, RefreshSummary, read_summary
from pipelines.united_finetune import run_loop
from shapes_world.oracle import oracle_score, overall
from videoduet.progress import console
from videoduet.records import Comparison, OrderVerdict, Sample, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, write_json
from videoduet.video import read_video

EQUAL, CLEAR = 0.02, 0.1
"""Oracle gaps: clips closer than the one are equals, pairs further apart than the other have a clear winner."""


class CoinFlip:
    """Decides every pair by one fair coin, whatever it shows."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """A coin's answers, the same for the same two videos."""
        for pair in pairs:
            first = bool(seed_for("coin", pair.first.id, pair.second.id) % 2)
            orders = ("first", "second") if first else ("second", "first")
            forward, backward = (OrderVerdict(text=f"coin: {order}", verdict=order) for order in orders)
            yield Comparison.of(pair, "coin_flip", forward, backward)


class AlwaysFirst:
    """Prefers whatever is shown first."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Disagreements: the first position wins in both orders."""
        for pair in pairs:
            verdict = OrderVerdict(text="first", verdict="first")
            yield Comparison.of(pair, "always_first", verdict, verdict)


def _without(config: RunConfig, factory: str) -> RunConfig:
    return dataclasses.replace(config, judge=JudgeConfig(factory=f"benchmarks.closed_loop.{factory}"))


ARMS: dict[str, tuple[Callable[[RunConfig], RunConfig], tuple[str, ...]]] = {
    "full": (lambda config: config, ()),
    "no_refresh": (
        lambda config: dataclasses.replace(config, refresh=dataclasses.replace(config.refresh, enabled=False)),
        ("round_00", "round_01/sample"),
    ),
    "coin_flip": (lambda config: _without(config, "CoinFlip"), ("round_00/sample",)),
    "always_first": (lambda config: _without(config, "AlwaysFirst"), ("round_00/sample",)),
}
"""Each arm's change of the default recipe, and what it shares with the full arm."""


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
        measured = {"cases": measure(run)}
        if arm == "full":
            measured["refresh"] = measure_refresh(run)
        aligned = [read_summary(AlignSummary, run.folder("align", number)) for number in range(run.config.rounds)]
        measured["skipped"] = [summary.reason for summary in aligned if summary.status == "skipped"]
        measured["rounds"] = len(aligned)
    write_json(file, measured)
    return measured


def _oracle(run: Run, samples: list[Sample]) -> dict[tuple[str, int], float]:
    prompts = {prompt.id: prompt.text for prompt in (*run.prompts, *run.held_out_prompts)}
    return {
        (s.prompt_id, s.index): overall(oracle_score(read_video(s.video_path).frames, prompts[s.prompt_id]))
        for s in samples
    }


def measure(run: Run) -> dict:
    """Oracle scores of base and last version on every held-out case."""
    versions = (run.samples("score", version=f"G_{number}") for number in (0, run.config.rounds))
    base, last = (_oracle(run, samples) for samples in versions)
    return {"base": [base[case] for case in sorted(base)], "aligned": [last[case] for case in sorted(base)]}


def measure_refresh(run: Run) -> dict:
    """What the refreshed judge does: newer version between equals, and accuracy on clear pairs within one version.

    The clear pairs are of prompts that did not refresh it. Values are means over a prompt's decided pairs, which share
    their clips and so are no cases of their own.
    """
    judges = {"D_0": run.judge(0), "D_1": run.judge(1)}
    samples = [run.samples("sample", number) for number in (0, 1)]
    scores = [_oracle(run, group) for group in samples]
    prompts = {prompt.id: prompt for prompt in (*run.prompts, *run.held_out_prompts)}
    newer = {(s.prompt_id, s.index): s.video for s in samples[1]}
    equals = [
        VideoPair(prompt=prompts[s.prompt_id], first=newer[other], second=s.video)
        for s in samples[0]
        for other in newer
        if other[0] == s.prompt_id and abs(scores[0][s.prompt_id, s.index] - scores[1][other]) < EQUAL
    ]
    equals = [equals[index] for index in np.random.default_rng(run.config.seed).permutation(len(equals))[:300]]
    unseen = [
        (VideoPair(prompt=prompt, first=one.video, second=other.video), gap)
        for prompt in run.split.withheld()
        for one, other in itertools.combinations([s for s in samples[1] if s.prompt_id == prompt.id], 2)
        if abs(gap := scores[1][prompt.id, one.index] - scores[1][prompt.id, other.index]) >= CLEAR
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


def oracle_wins(case: dict) -> list[float]:
    """1 where the aligned video beats the base by the oracle, ½ where they are the same."""
    return [0.5 * (np.sign(a - b) + 1) for a, b in zip(case["aligned"], case["base"], strict=True)]


def report(results: dict[str, dict[int, dict]], refresh: list[dict]) -> None:
    """Print the tables of all arms, with intervals over cases."""
    table = Table(
        "what", "mean", "95 % interval", "cases", title="Oracle win rate of the aligned generator over the base"
    )
    wins = {arm: [oracle_wins(case) for case in cases.values()] for arm, cases in results.items()}

    def row(name: str, values: list[list[float]]) -> None:
        mean, low, high = bootstrap(values)
        table.add_row(name, f"{mean:.3f}", f"{low:.3f} to {high:.3f}", " + ".join(str(len(group)) for group in values))

    for arm, values in wins.items():
        row(arm, values)
    for other in ("coin_flip", "no_refresh"):
        row(f"full - {other}", [np.subtract(a, b).tolist() for a, b in zip(wins["full"], wins[other], strict=True)])
    gains = [np.subtract(case["aligned"], case["base"]).tolist() for case in results["full"].values()]
    row("oracle gain of full", gains)
    for name in refresh[0]:
        if isinstance(refresh[0][name], list):
            row(name, [seed[name] for seed in refresh])
    console.print(table)


def run_arms(seeds: int, output: Path, jobs: int) -> dict[tuple[str, int], dict]:
    """What :func:`measure_arm` gives for each arm and seed; arms wait for the full one, whose samples they share."""
    with workers(jobs) as pool:
        return finish(
            partial(measure_arm, output=output),
            [("full", seed) for seed in range(seeds)],
            lambda arm, seed: [(other, seed) for other in ARMS if other != "full"] if arm == "full" else [],
            pool=pool, total=len(ARMS) * seeds, what="arms",
        )  # fmt: skip


def main(output: Path = Path("runs/closed_loop"), seeds: int = 3, jobs: int = os.cpu_count() or 1) -> None:
    """Run all arms of all seeds and print the table; results are kept in ``output/results.json``.

    Args:
        output: Where the runs are kept.
        seeds: Number of run seeds.
        jobs: How many arms run at a time, each on one core.
    """
    results = run_arms(seeds, output, jobs)
    for (arm, seed), measured in sorted(results.items()):
        if arm == "always_first":
            assert len(measured["skipped"]) == measured["rounds"], (
                "an always-first judge must give no pairs in any round"
            )
        if arm == "full":
            console.print(f"full, seed {seed}: the refreshed judge was {measured['refresh']['status']}", markup=False)
        for reason in measured["skipped"]:
            console.print(f"{arm}, seed {seed}: {reason}", markup=False)
    cases = {arm: {seed: results[arm, seed]["cases"] for seed in range(seeds)} for arm in ARMS}
    refresh = [results["full", seed]["refresh"] for seed in range(seeds)]
    write_json(output / "results.json", {"arms": cases, "refresh": refresh})
    report(cases, refresh)


if __name__ == "__main__":
    CLI(main, as_positional=False, description=__doc__)
