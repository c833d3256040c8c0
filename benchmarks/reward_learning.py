"""Does GRPO teach a judge? ``python -m benchmarks.reward_learning [--output DIR] [--seeds 3]``.

The judge that ships first learns, supervised, to describe pictures, clips and pairs in a thought, how good they are
included; of answers it sees eight of each kind, to know their form. Then it is trained from rewards alone, by the
trainer of the recipes, once for each seed: stage 1 on pictures, stage 2 on clips (temporal and length rewards) and
pairs. So what GRPO can teach is to answer by what is thought, and to think better. All seeds start from the one judge.
Every *arm* leaves one piece out, or takes another temporal reward; the one without the warm-up also has stage 1's steps
less. All are measured, by greedy answers, on held-out items that nothing else looks at, clips that are spoilt in ways
that no temporal reward shows among them.

Judges are trained side by side, each on one core, and write what they do to a log beside them. Interrupted, the same
command goes on.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import CLI
from rich.table import Table

from benchmarks.reward_learning_arms import ARMS, REWARDS, STAGE1, STAGE2, TEMPORAL, WHOLE
from benchmarks.reward_learning_data import SCALE, WORDING, cold_start, labelled, write_datasets
from benchmarks.reward_learning_time import STATISTICS as IN_TIME
from benchmarks.reward_learning_time import of_untrained, said_of, untrained_change, write_spoilt
from benchmarks.workers import finish, logged, workers
from pipelines.train_reward_model import train
from reward_model.datasets import ScoredClip
from reward_model.judging.local import Judge
from reward_model.judging.tasks import rescaled
from reward_model.measuring.benchmark import answered, compared, items_of
from reward_model.measuring.config import JudgeEvaluationConfig
from reward_model.measuring.evaluation import margin_of
from reward_model.metrics import bootstrap_interval, srcc
from reward_model.parsing import parse_score
from reward_model.rewards import score_reward
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig, RewardConfig
from videoduet.progress import console
from videoduet.store import atomic_path, read_json, write_json

TRAIN, HELD_OUT_ITEMS, SPOILT_CLIPS = 1000, 400, 100
DESCRIBED, ANSWERED, LESSON_STEPS = 2000, 8, 600
"""Of each kind: items to train on and to measure on (clips in all their versions), lessons in describing, and in
answering too.
"""
SETTINGS = {
    "items": [TRAIN, HELD_OUT_ITEMS, SPOILT_CLIPS, DESCRIBED, ANSWERED, LESSON_STEPS],
    **{name: asdict(part) for name, part in (("stage 1", STAGE1), ("stage 2", STAGE2), ("rewards", REWARDS))},
}
HELD_OUT = {
    "pictures": ("koniq_10k", "pictures"),
    "clips": ("lsvq", "clips"),
    "shuffled": ("lsvq", "shuffled"),
    "pairs": ("monetbench", "pairs"),
}
"""What is measured: the reader and the folder of its data."""
SPOILT = {"spoilt": ("lsvq", "spoilt")}


_LEVELS = re.compile(r"clear (\d+)(?: steady (\d+))?")


def thought_score(text: str) -> float | None:
    """The mean of the levels that a thought names: what its answer should be; None where it names none."""
    found = _LEVELS.search(text)
    return None if found is None else float(np.mean([int(level) for level in found.groups() if level is not None]))


def measure(judge: Path, data: Path, output: Path) -> dict[str, Any]:
    """For each held-out set the truth and what the judge says, item by item; kept in ``output``.

    A pair's truth is 1 or -1, and what the judge says its margin; a score that cannot be read is None. "pictures,
    thought" and "clips, thought" have the levels in the thoughts instead of the answers. "spoilt" has what is said of
    every version of a clip, by its name, without a truth.
    """
    if (file := output / "outcomes.json").exists():
        return read_json(file)
    torch.manual_seed(0)
    loaded, outcomes = Judge.from_pretrained(judge, batch_size=64, device="cpu"), {}
    for kind, (benchmark, folder) in (HELD_OUT | SPOILT).items():
        config = JudgeEvaluationConfig(
            judge=str(judge), benchmark=benchmark, data=str(data / folder), output=str(output / kind), split="test",
            scale=SCALE, prompts=WORDING, batch_size=32,
        )  # fmt: skip
        reading = items_of(config)
        items = reading.items
        if kind == "pairs":
            found = compared(config, items, loaded, output / kind)
            truth = [1.0 if item.preferred["overall"] == "first" else -1.0 for item in items]
            outcomes[kind] = [truth, [margin_of(comparison) for comparison in found]]
        else:
            texts = answered(config, items, loaded, output / kind)
            if kind == "spoilt":
                outcomes[kind] = said_of(
                    [item for item in items if isinstance(item, ScoredClip)],
                    [parse_score(text or "", SCALE) for text in texts],
                )
                continue
            truth = [rescaled(item.scores["overall"], reading.scale, SCALE) for item in items]
            outcomes[kind] = [truth, [parse_score(text, SCALE) for text in texts]]
            outcomes[f"{kind}, thought"] = [truth, [thought_score(text) for text in texts]]
    write_json(file, outcomes)
    return outcomes


def _data(folder: Path, *names: str) -> list[DataConfig]:
    known = {
        "pictures": DataConfig(name="koniq_10k", folder=str(folder / "pictures")),
        "clips": DataConfig(name="lsvq", folder=str(folder / "clips"), share=0.5),
        "pairs": DataConfig(name="vision_reward_pairs", folder=str(folder / "pairs"), split="all", share=0.5),
    }
    return [known[name] for name in names]


def stage(start: Path, output: Path, data: list[DataConfig], training: GRPOTraining, rewards: RewardConfig,
          seed: int) -> Path:  # fmt: skip
    """Train, or go on; returns the whole model."""
    if not (output / "model").exists():
        train(
            JudgeTrainingConfig(
                model=str(start),
                data=data,
                output=str(output),
                scale=SCALE,
                rewards=rewards,
                training=training,
                prompts=WORDING,
                merge=True,
                seed=seed,
            )
        )
    return output / "model"


def accuracy(truth: Sequence[float], margin: Sequence[float]) -> float:
    """Share of the pairs that are decided right; no decision counts half."""
    return float((np.sign(np.multiply(truth, margin)) + 1).mean() / 2)


def correlation(truth: Sequence[float], scores: Sequence[float | None]) -> float:
    """SRCC, an answer that cannot be read being the middle of the scale; 0 for a judge that says the same of all."""
    known = [sum(SCALE) / 2 if score is None else score for score in scores]
    return srcc(known, truth) if np.ptp(known) > 0 else 0.0


def rewards(truth: Sequence[float], scores: Sequence[float | None]) -> np.ndarray:
    """ℓ1 reward of each item as training gives it: an error counts at most the whole scale."""
    return np.array([max(0.0, score_reward(s, t, scale=SCALE)) for s, t in zip(scores, truth, strict=True)])


def unread(outcomes: dict, kind: str) -> float:
    """Share of the answers that cannot be read, or of the pairs that are not decided."""
    return float(np.mean([said is None or (kind == "pairs" and said == 0) for said in outcomes[kind][1]]))


STATISTICS: dict[str, Callable[..., float]] = {"pictures": correlation, "clips": correlation, "pairs": accuracy}


def gain(kind: str, before: dict, after: dict) -> tuple[float, float, float]:
    """By how much a statistic rose on the same items, with the 95 % interval over the items."""
    statistic = STATISTICS[kind]
    (truth, old), (_, new) = before[kind], after[kind]
    low, high = bootstrap_interval(lambda t, a, b: statistic(t, b) - statistic(t, a), truth, old, new)
    return statistic(truth, new) - statistic(truth, old), low, high


def gaps(outcomes: dict) -> np.ndarray:
    """By how much the ℓ1 reward of each ordered clip lies above that of its shuffled version."""
    return rewards(*outcomes["clips"]) - rewards(*outcomes["shuffled"])


def gap_change(before: dict, after: dict) -> tuple[float, float, float]:
    """By how much the mean gap is wider, with the 95 % interval over the clips."""
    change = gaps(after) - gaps(before)
    return float(change.mean()), *bootstrap_interval(np.mean, change)


def learn(name: str, seed: int, root: Path) -> dict[str, list]:
    """Train a judge of a seed, or go on, and measure it (a process of its own calls this); its log is beside it."""
    data, home, start = root / "data", root / f"seed_{seed}", root / "start"
    first = home / "stage 1"
    with logged(home / f"{name}.log"):
        if name == "start":
            judge = start
        elif name == "stage 1":
            judge = stage(start, first, _data(data, "pictures"), STAGE1, RewardConfig(), seed)
        else:
            arm = (ARMS | TEMPORAL)[name]
            before = first / "model" if arm.warm_up else start
            judge = stage(before, home / name, _data(data, "clips", "pairs"), STAGE2, arm.rewards, seed)
        return measure(judge, data, home / "measured" / name)


def learn_all(seeds: int, arms: Sequence[str], root: Path, pool: Executor) -> list[dict[str, dict]]:
    """What is measured of every judge, seed by seed; arms wait for their seed's stage 1."""
    found = finish(
        partial(learn, root=root),
        [*(("stage 1", seed) for seed in range(seeds)), ("start", 0)],
        lambda name, seed: [(arm, seed) for arm in arms] if name == "stage 1" else [],
        pool=pool, total=1 + seeds * (1 + len(arms)), what="judges",
    )  # fmt: skip
    return [
        {"start": found["start", 0], **{name: found[name, seed] for name in ("stage 1", *arms)}}
        for seed in range(seeds)
    ]


def show(found: Sequence[dict[str, dict]]) -> None:
    """Print what each judge can do, what each stage gained, and what the temporal reward did."""
    columns = [*STATISTICS, "unread", "by thoughts", "ordered - shuffled", *(f"spoilt: {name}" for name in IN_TIME)]
    table = Table("judge", *columns, title="means of the seeds")
    thoughts = [f"{kind}, thought" for kind in STATISTICS if kind != "pairs"]
    for name in found[0]:
        judged = [seed[name] for seed in found]
        cells = [f"{np.mean([STATISTICS[kind](*one[kind]) for one in judged]):.3f}" for kind in STATISTICS]
        missing = "/".join(f"{np.mean([unread(one, kind) for one in judged]):.2f}" for kind in STATISTICS)
        by_thoughts = "/".join(f"{np.mean([correlation(*one[kind]) for one in judged]):.2f}" for kind in thoughts)
        spoilt = [f"{np.mean([of_untrained(kind, one['spoilt']) for one in judged]):.3f}" for kind in IN_TIME]
        table.add_row(name, *cells, missing, by_thoughts, f"{np.mean([gaps(one) for one in judged]):.3f}", *spoilt)
    console.print(table)
    console.print("SRCC of pictures and of clips, accuracy of pairs; the same SRCC if each thought were its answer.")
    console.print("Of clips that freeze, drop frames, jitter or flicker: by how much of the scale the score falls, and "
                  "how often the more severe of two versions gets the lower one (0.5 is chance).")  # fmt: skip
    table = Table("gain", "on", *(f"seed {index}" for index in range(len(found))))
    steps = [("stage 1 over start", "start", "stage 1"), ("stage 2 over stage 1", "stage 1", WHOLE)]
    steps += [("stages 1 and 2 over start", "start", WHOLE)]
    steps += [(f"whole over {name}", name, WHOLE) for name in found[0] if name in ARMS | TEMPORAL and name != WHOLE]
    for what, before, after in steps:
        for kind in STATISTICS:
            gains = [gain(kind, seed[before], seed[after]) for seed in found]
            table.add_row(what, kind, *map(_interval, gains))
        table.add_row(what, "ordered - shuffled", *(_interval(gap_change(seed[before], seed[after])) for seed in found))
        for kind in IN_TIME:
            changes = [untrained_change(kind, seed[before]["spoilt"], seed[after]["spoilt"]) for seed in found]
            table.add_row(what, f"spoilt: {kind}", *map(_interval, changes))
    console.print(table)


def _interval(values: tuple[float, float, float]) -> str:
    value, low, high = values
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def main(
    output: str = "runs/reward_learning",
    seeds: int = 3,
    arms: Sequence[str] = tuple(ARMS),
    jobs: int = os.cpu_count() or 1,
) -> None:
    """Train and measure.

    Args:
        output: Where everything is kept.
        seeds: How many seeds.
        arms: Which arms, the whole among them; 'temporal modeling', 'fidelity', 'contrast', 'severity' or 'margin',
            too, where another temporal reward is to be compared with the whole's.
        jobs: How many judges are trained at a time, each on one core.
    """
    if WHOLE not in arms or not set(arms) <= set(ARMS | TEMPORAL):
        raise SystemExit(
            f"--arms must hold {WHOLE!r}, which the others are compared with; there are {list(ARMS | TEMPORAL)}."
        )
    root = Path(output)
    settings = root / "settings.json"
    if not root.exists():
        write_json(settings, SETTINGS)
    elif not settings.exists() or read_json(settings) != json.loads(json.dumps(SETTINGS)):
        raise SystemExit(f"{root} holds a benchmark with other settings; give another --output.")
    console.print("Pictures, clips and pairs are made first, where they are missing.")
    with workers(jobs) as pool:
        write_datasets(root / "data", train=TRAIN, held_out=HELD_OUT_ITEMS, each=pool.map)
        if not (spoilt := root / "data" / "spoilt").exists():
            with atomic_path(spoilt) as temporary:
                write_spoilt(temporary, SPOILT_CLIPS, seed=5)
        if not (root / "start").exists():
            lessons = list(pool.map(partial(labelled, count=DESCRIBED, seed=3, folder=root / "lessons"), STATISTICS))
            described, answered = ([one for part in lessons for one in part[:n]] for n in (DESCRIBED, ANSWERED))
            cold_start(described, answered, root / "start", steps=LESSON_STEPS, seed=0)
        show(learn_all(seeds, arms, root, pool))


if __name__ == "__main__":
    CLI(main, as_positional=False, description=__doc__)
