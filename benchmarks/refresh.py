"""When does refreshing the judge help? ``python -m benchmarks.refresh [--output DIR] [--seeds 3]``.

D_0 learns from rendered clips alone (``benchmarks.refresh_judge``), so it has something to learn from generated ones.
The default loop is then run without a refresh (*none*), with labels that D_(r - 1) agrees with in both orders
(*agreed*), with the paper's (*paper*), the same on the other half of the prompts (*cross_fit*), with the oracle's (the
ceiling: *oracle*), and with as many steps on rendered pairs alone (*own_data*). All arms of a seed share the first
round. Measured by the oracle on held-out prompts: how often a judge is right about pairs within one generator version
(the same pairs for all arms of a seed: those of *none*), how often it prefers the newer version between equals, and how
often the last generator beats the base. So is what the labels were worth.

Arms run side by side, each on one core, seed by seed: the table is printed after each seed. Interrupted, the same
command goes on where it was.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table

from benchmarks.closed_loop import CLEAR, EQUAL, bootstrap, measure, wins_by_prompt
from benchmarks.refresh_arms import ARMS, Sizes, config_of, truth
from benchmarks.refresh_judge import first_judge
from benchmarks.workers import finish, logged, workers
from pipelines.loop.run import Run
from pipelines.loop.summaries import RefreshSummary, read_summary
from pipelines.united_finetune import run_loop
from reward_model.judging.base import PairwiseJudge
from reward_model.training.refresh import read_labelled_pairs
from videoduet.config import to_dict
from videoduet.progress import console
from videoduet.records import LabelledPair, Prompt, Sample, VideoPair
from videoduet.store import atomic_path, read_json, read_records, write_json

SHARED = ("round_00", "round_01/sample")
"""What no refresh has touched."""
WHOLE = Sizes()
Measured = dict[str, Any]


def judged_right(judge: PairwiseJudge, pairs: Sequence[LabelledPair]) -> dict[str, float]:
    """By prompt, the share of its pairs about which a judge is right; no decision counts ½."""
    labels = {(pair.first.id, pair.second.id): pair for pair in pairs}
    found = dict.fromkeys(labels, 0.5)
    for comparison in judge.compare([pair.pair for pair in pairs]):
        key = (comparison.first_id, comparison.second_id)
        if comparison.preferred_id is not None:
            found[key] = float((comparison.preferred_id == key[0]) == (labels[key].preferred == "first"))
    groups: dict[str, list[float]] = {}
    for key, value in found.items():
        groups.setdefault(labels[key].prompt.id, []).append(value)
    return {prompt_id: float(np.mean(values)) for prompt_id, values in sorted(groups.items())}


def _by_prompt(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.prompt_id, []).append(sample)
    return groups


def clear_pairs(prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[LabelledPair]:
    """Pairs of one version's videos that the oracle tells apart, labelled by it."""
    pairs: list[LabelledPair] = []
    for prompt in prompts:
        scored = [(truth(sample.video, prompt.text), sample.video) for sample in _by_prompt(samples).get(prompt.id, [])]
        pairs += [
            LabelledPair(prompt=prompt, first=first, second=second, preferred="first" if a > b else "second")
            for (a, first), (b, second) in itertools.combinations(scored, 2)
            if abs(a - b) >= CLEAR and first.id != second.id
        ]
    return pairs


def newer_between_equals(
    judge: PairwiseJudge, prompts: Sequence[Prompt], newer: Sequence[Sample], older: Sequence[Sample]
) -> dict[str, float]:
    """By prompt, how often a judge that decides prefers the newer of two videos that the oracle calls equal."""
    pairs: list[VideoPair] = []
    new, old = _by_prompt(newer), _by_prompt(older)
    for prompt in prompts:
        sides = [
            [(truth(sample.video, prompt.text), sample.video) for sample in group.get(prompt.id, [])]
            for group in (new, old)
        ]
        pairs += [
            VideoPair(prompt=prompt, first=first, second=second)
            for (a, first), (b, second) in itertools.product(*sides)
            if abs(a - b) < EQUAL and first.id != second.id
        ]
    groups: dict[str, list[float]] = {}
    for comparison in judge.compare(pairs):
        if comparison.preferred_id is not None:
            newer_won = float(comparison.preferred_id == comparison.first_id)
            groups.setdefault(comparison.prompt_id, []).append(newer_won)
    return {prompt_id: float(np.mean(values)) for prompt_id, values in sorted(groups.items())}


def labels_right(run: Run, round_number: int) -> dict[str, list[float]]:
    """Whether each label of a refresh is what the oracle says, by kind (*across* versions, *within* one)."""
    file = run.folder("refresh", round_number) / "labels.parquet"
    found: dict[str, list[float]] = {"across": [], "within": []}
    for label in read_records(LabelledPair, file, root=run.directory.root) if file.exists() else []:
        gap = truth(label.first, label.prompt.text) - truth(label.second, label.prompt.text)
        found[label.source.split()[0]].append(float((gap > 0) == (label.preferred == "first")))
    return found


def run_arm(arm: str, seed: int, output: Path, sizes: Sizes) -> Run:
    """The finished run of an arm, which shares the first round with *none*."""
    config = config_of(arm, seed, output, sizes)
    target, none = Path(config.run_dir), output / f"seed_{seed}" / "none"
    for part in SHARED if arm != "none" else ():
        if not (target / part).exists():
            with atomic_path(target / part) as temporary:
                shutil.copytree(none / part, temporary, copy_function=os.link)
    with ARMS[arm].in_force():
        return run_loop(config)


def measure_arm(arm: str, seed: int, output: Path, sizes: Sizes) -> Measured:
    """Run an arm (a process of its own calls this) and measure it; kept in ``measured.json``, so never done twice."""
    directory = output / f"seed_{seed}" / arm
    if (file := directory / "measured.json").exists():
        return read_json(file)
    with logged(directory / "log.txt"):
        run = run_arm(arm, seed, output, sizes)
        measured = measured_of(run, Run.open(output / f"seed_{seed}" / "none"), rendered=arm == "none")
    write_json(file, measured)
    return measured


def measured_of(run: Run, none: Run, *, rendered: bool) -> Measured:
    """Everything that is told of an arm; pairs within a version are of the run ``none``."""
    rounds, prompts = run.config.rounds, run.held_out_prompts
    pairs = [
        pair
        for number in range(1, rounds + 1)
        for pair in clear_pairs(prompts, none.samples("score", version=f"G_{number}"))
    ]
    folders = {f"D_{number}": run.folder("refresh", number) for number in range(1, rounds)}
    refreshes = {name: read_summary(RefreshSummary, folder) for name, folder in folders.items()}
    last = run.judge(rounds - 1)
    measured: Measured = {
        "right": {f"D_{number}": judged_right(run.judge(number), pairs) for number in range(1, rounds)},
        "newer": newer_between_equals(
            last, prompts, *(run.samples("score", version=f"G_{number}") for number in (rounds, rounds - 1))
        ),
        "wins": wins_by_prompt(measure(run, run.directory.root.parent / "base.json")),
        "labels": {name: labels_right(run, int(name[2:])) for name in refreshes},
        "refreshes": {name: to_dict(summary) for name, summary in refreshes.items()},
    }
    if rendered:
        held_out = read_labelled_pairs(run.config.refresh.held_out_data or "")
        measured["D_0"] = {"rendered": judged_right(last, held_out), "generated": judged_right(last, pairs)}
    return measured


def differences(ours: Mapping[str, float], others: Mapping[str, float]) -> list[float]:
    """Prompt by prompt, where both have a value."""
    return [ours[key] - others[key] for key in ours if key in others]


def _told(values: list[list[float]]) -> str:
    if not any(values):
        return "-"
    mean, low, high = bootstrap(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def report(results: Mapping[str, Mapping[int, Measured]]) -> None:
    """Print what all arms came to, with 95 % intervals over seeds and prompts."""
    first = [measured["D_0"] for measured in results["none"].values()]
    for kind in ("rendered", "generated"):
        said = _told([list(found[kind].values()) for found in first])
        console.print(f"D_0 is right about {kind} pairs: {said}", highlight=False)
    judges = list(next(iter(results["none"].values()))["right"])
    columns = [column for name in judges for column in (f"{name} right", f"{name} - none's")]
    table = Table("arm", *columns, "newer between equals", "oracle wins", "wins - none's", title=f"{len(first)} seeds")
    noise = Table("arm", *(f"{name}: {kind}" for name in judges for kind in ("across", "within", "gate")),
                  title="Labels that the oracle agrees with; what the gate measured, before to after")  # fmt: skip
    for arm, seeds in results.items():
        none = [results["none"][seed] for seed in seeds]
        ours = list(seeds.values())
        cells: list[str] = []
        for name in judges:
            cells.append(_told([list(each["right"][name].values()) for each in ours]))
            pairs = zip(ours, none, strict=True)
            cells.append(_told([differences(each["right"][name], other["right"][name]) for each, other in pairs]))
        cells.append(_told([list(each["newer"].values()) for each in ours]))
        cells.append(_told([each["wins"] for each in ours]))
        both = zip(ours, none, strict=True)
        cells.append(_told([np.subtract(each["wins"], other["wins"]).tolist() for each, other in both]))
        table.add_row(arm, *cells)
        noise.add_row(arm, *(cell for name in judges for cell in _labels_row(ours, name)))
    console.print(table)
    console.print(noise)


def _labels_row(measured: Sequence[Measured], judge: str) -> list[str]:
    cells: list[str] = []
    for kind in ("across", "within"):
        values = [value for each in measured for value in each["labels"][judge][kind]]
        cells.append(f"{np.mean(values):.2f} of {len(values)}" if values else "-")
    told = [_gate(each["refreshes"][judge]) for each in measured]
    return [*cells, "; ".join(told)]


def _gate(refresh: Mapping[str, Any]) -> str:
    if refresh["figures"] is None:
        return refresh["status"]
    held_out = refresh["figures"]["held_out"]
    return ", ".join(f"{kind} {each['before']:.2f} to {each['after']:.2f}" for kind, each in held_out.items())


def run_seed(seed: int, arms: Sequence[str], output: Path, sizes: Sizes, jobs: int) -> dict[str, Measured]:
    """What :func:`measure_arm` gives for each arm; they wait for *none*, whose samples they share."""
    others = [arm for arm in arms if arm != "none"]
    with workers(jobs) as pool:
        found = finish(
            partial(measure_arm, output=output, sizes=sizes),
            [("none", seed)],
            lambda arm, seed: [(other, seed) for other in others] if arm == "none" else [],
            pool=pool, total=1 + len(others), what=f"seed {seed}: arms",
        )  # fmt: skip
    return {arm: found[arm, seed] for arm in ("none", *others)}


def main(
    output: Path = Path("runs/refresh"), seeds: int = 3, arms: tuple[str, ...] = tuple(ARMS), sizes: Sizes = WHOLE,
    jobs: int = os.cpu_count() or 1,
) -> None:  # fmt: skip
    """Run all arms, seed by seed, and print the table after each; results are kept in ``output/results.json``.

    Args:
        output: Where everything is kept.
        seeds: Number of run seeds.
        arms: Which arms, besides *none*.
        sizes: How large it is; another size needs another output.
        jobs: How many arms run at a time, each on one core.
    """
    if unknown := set(arms) - ARMS.keys():
        sys.exit(f"error: {', '.join(sorted(unknown))} is no arm; give some of {', '.join(ARMS)}.")
    output = output.absolute()
    if (kept := output / "sizes.json").exists() and read_json(kept) != to_dict(sizes):
        sys.exit(f"error: {output} holds a benchmark of other sizes; give another --output.")
    write_json(kept, to_dict(sizes))
    with workers(1) as pool:
        pool.submit(first_judge, sizes.judge, output / "judge").result()
    results: dict[str, dict[int, Measured]] = {}
    for seed in range(seeds):
        for arm, measured in run_seed(seed, arms, output, sizes, jobs).items():
            results.setdefault(arm, {})[seed] = measured
        write_json(output / "results.json", results)
        report(results)


if __name__ == "__main__":
    CLI(main, as_positional=False, description=__doc__)
