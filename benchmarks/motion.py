"""What does a motion token add? ``python -m benchmarks.motion [--output DIR] [--seeds 3]``.

The tiny InternVL that ships, which describes and scores clips frame by frame, learns in one last supervised stage to
say the *temporal quality* of a clip, all weights but the motion encoder's, once for each seed in three arms: with a
motion token from the tiny SlowFast that was trained on how clips move, with one from the same network at random, and
without. All see the same frames of the same clips in the same order. Measured is the rank correlation (SRCC) of scores
with the truth on held-out clips, with 95 % intervals over the clips. A score is the mean of the levels that an answer
may begin with, by their probabilities.

Interrupted, the same command goes on.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from rich.table import Table

from benchmarks.motion_data import probed, write_clips
from benchmarks.reward_learning import correlation
from benchmarks.workers import finish, logged, workers
from pipelines.train_reward_model import train
from reward_model.datasets import read_dataset
from reward_model.encoding import ShowingEncoder
from reward_model.families.base import has_motion
from reward_model.families.convert import add_motion
from reward_model.families.sense import seam_for
from reward_model.judging.local import Judge
from reward_model.motion import SlowFast
from reward_model.prompts import TaskPrompts
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig
from shapes_world.build_slowfast import random_slowfast
from videoduet.config import resolve
from videoduet.intervals import bootstrap_interval
from videoduet.progress import console
from videoduet.store import atomic_path, read_json, write_json

JUDGE, SLOWFAST = "shapes_world/models/internvl", "shapes_world/models/slowfast"
SCALE = (0.0, 10.0)
WORDING = TaskPrompts(system="", score="steady")
TRAIN, HELD_OUT = 1200, 400
LAST = GRPOTraining(
    method="sft", parameters="all", vision="all", steps=80, pairs_per_step=16, micro_batch=16, learning_rate=1e-3,
    checkpoint_steps=40,
)  # fmt: skip
"""The last stage; nothing of it is told which arm it is."""
ARMS = ("motion", "none", "random")
SETTINGS = {"clips": [TRAIN, HELD_OUT], "last stage": asdict(LAST)}


def encoder(arm: str, seed: int) -> SlowFast:
    """The motion encoder of an arm: the one that ships, or the same at random, another for each seed."""
    return SlowFast.from_pretrained(resolve(SLOWFAST)) if arm == "motion" else random_slowfast(seed)


def start(arm: str, seed: int, home: Path) -> str:
    """The judge before the last stage: in ``home`` where it has a motion token, its projector drawn from ``seed``."""
    if arm == "none":
        return resolve(JUDGE)
    if not (home / "start").exists():
        with atomic_path(home / "slowfast") as temporary:
            encoder(arm, seed).save_pretrained(temporary)
        add_motion(Path(resolve(JUDGE)), home / "slowfast", home / "start", seed=seed)
    return str(home / "start")


def learn(arm: str, seed: int, root: Path) -> dict[str, Any]:
    """Train an arm of a seed, or go on, and measure it (a process of its own calls this); its log is beside it."""
    home, data = root / f"seed_{seed}" / arm, root / "clips"
    with logged(home / "log.txt"):
        if not (home / "stage" / "model").exists():
            train(JudgeTrainingConfig(
                model=start(arm, seed, home), data=[DataConfig(name="lsvq", folder=str(data))],
                output=str(home / "stage"), scale=SCALE, training=LAST, prompts=WORDING, reasoning=False, seed=seed,
            ))  # fmt: skip
        return measure(home / "stage" / "model", data, home)


def measure(judge: Path, data: Path, home: Path) -> dict[str, Any]:
    """The truth and the judge's score, held-out clip by clip; kept in ``home``."""
    if not (file := home / "outcomes.json").exists():
        items: Sequence[Any] = read_dataset("lsvq", str(data), "test").items
        said = expected(Judge.from_pretrained(judge, device="cpu"), [item.path for item in items])
        write_json(file, {"truth": [item.scores["overall"] for item in items], "said": said})
    return read_json(file)


@torch.no_grad()
def expected(judge: Judge, paths: Sequence[str], batch: int = 50) -> list[float]:
    """The mean level, by the probabilities of the eleven that an answer may begin with: finer than the likeliest, which
    is one of two or three.
    """
    prompt, words = judge.prompts.of("score"), judge.tokenizer
    encoder = ShowingEncoder.for_view(judge.processor, prompt.view, motion=has_motion(judge.model))
    levels = [words(str(level)).input_ids[0] for level in range(11)]
    seam, found = seam_for(judge.model, encoder), []
    for first in range(0, len(paths), batch):
        some = paths[first : first + batch]
        showings = [encoder.showing(prompt.score("", path).messages, begun="<answer>") for path in some]
        if seam is not None:
            seam.expect([showing.videos for showing in showings])
        logits = judge.model(**encoder.collate(showings, pixels=True), logits_to_keep=1).logits[:, -1, levels]
        found += (logits.softmax(-1) @ torch.arange(11.0)).tolist()
    return found


def of(outcome: dict[str, Any]) -> tuple[float, float, float]:
    """SRCC with its interval over the clips."""
    truth, said = outcome["truth"], outcome["said"]
    return correlation(truth, said), *bootstrap_interval(correlation, truth, said)


def difference(more: dict[str, Any], less: dict[str, Any]) -> tuple[float, float, float]:
    """By how much SRCC is higher on the same clips, with the interval over them."""
    truth, a, b = more["truth"], more["said"], less["said"]
    interval = bootstrap_interval(lambda t, a, b: correlation(t, a) - correlation(t, b), truth, a, b)
    return correlation(truth, a) - correlation(truth, b), *interval


def show(found: dict[tuple, dict[str, Any]], seeds: int) -> None:
    """Print what each arm of each seed can do, and what motion adds."""
    table = Table("SRCC of temporal quality", *(f"seed {seed}" for seed in range(seeds)))
    for arm in ARMS:
        table.add_row(arm, *(_told(of(found[arm, seed]), "") for seed in range(seeds)))
    for other in ARMS[1:]:
        gains = [difference(found["motion", seed], found[other, seed]) for seed in range(seeds)]
        table.add_row(f"motion - {other}", *(_told(gain, "+") for gain in gains))
    console.print(table)


def _told(values: tuple[float, float, float], sign: str) -> str:
    value, low, high = (f"{number:{sign}.3f}" for number in values)
    return f"{value} [{low}, {high}]"


def main(
    output: str = "runs/motion", seeds: int = 3, arms: Sequence[str] = ARMS, jobs: int = os.cpu_count() or 1
) -> None:
    """Train and measure.

    Args:
        output: Where everything is kept.
        seeds: How many seeds of the last stage.
        arms: Which arms to train; the table comes when all are there.
        jobs: How many are trained at a time, each on one core.
    """
    root, settings = Path(output), Path(output) / "settings.json"
    if not settings.exists():
        write_json(settings, SETTINGS)
    elif read_json(settings) != SETTINGS:
        raise SystemExit(f"{root} holds a benchmark with other settings; give another --output.")
    torch.set_num_threads(1)
    write_clips(root / "clips", TRAIN, HELD_OUT)
    for arm in ("motion", "random"):
        if not (file := root / f"probe_{arm}.json").exists():
            write_json(file, probed(encoder(arm, 0), root / "clips"))
        console.print(f"linear probe of the features, {arm}: SRCC {read_json(file):.3f}")
    with workers(jobs) as pool:
        asked = [(arm, seed) for seed in range(seeds) for arm in ARMS if arm in arms]
        found = finish(
            partial(learn, root=root), asked, lambda *_: [], pool=pool, total=len(asked), what="arms"
        )  # fmt: skip
    if set(arms) == set(ARMS):
        show(found, seeds)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False, description=__doc__)
