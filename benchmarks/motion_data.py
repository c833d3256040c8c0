"""Clips whose temporal quality is known, in LSVQ's format, and what a motion encoder's features tell of it.

Truth comes from how a clip was made, never from the oracle.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reward_learning_data import shipped_vae, write_csv
from reward_model.datasets import read_dataset
from reward_model.datasets.items import Split
from reward_model.metrics import srcc
from reward_model.motion import SlowFast
from shapes_world.build_internvl import clips_of
from shapes_world.judge_data import DamagedClip
from shapes_world.world import FPS
from videoduet.seeding import seed_for
from videoduet.store import atomic_path
from videoduet.video import read_video, write_video

STEADY_SHARE = 0.25
"""Of the clips without damage in time, so many are kept: they all have one score, and rank nothing among them."""


def timed_clips(seed: int) -> Iterator[DamagedClip]:
    """Clips without end, most of them spoilt in time, by order, flicker or a shape that becomes another; all of them
    may have spatial damage as well.
    """
    for index, clip in enumerate(clips_of("motion", seed, shipped_vae())):
        kept = np.random.default_rng(seed_for("kept", seed, index)).random() < STEADY_SHARE
        if clip.temporal < 1 or kept:
            yield clip


def write_clips(folder: Path, train: int, held_out: int) -> None:
    """``train`` and ``held_out`` clips as LSVQ would have them, with their temporal quality, 0 to 100, as the score;
    once. What is learnt from is told in levels, as in the judge's lessons: two decimals of every score are more than a
    small judge can learn in so short a stage.
    """
    if folder.exists():
        return
    with atomic_path(folder) as root:
        rows = []
        for held, count in enumerate((train, held_out)):
            for index, clip in zip(range(count), timed_clips(held), strict=False):
                name = f"{held}_{index:04d}"
                write_video(root / f"{name}.mp4", clip.frames, FPS)
                rows.append((name, 100 * clip.temporal if held else 10 * round(10 * clip.temporal), held))
        write_csv(root / "labels_train_test.csv", ("name", "mos", "is_test"), *rows)


def probed(slowfast: SlowFast, folder: Path, ridge: float = 1.0) -> float:
    """SRCC of temporal quality on the held-out clips, as a linear regression on features reads it: what there is to
    gain from a motion token at least. It is fitted on the training clips, standardised, with a penalty.
    """
    (x, y), (held, truth) = (_features(slowfast, folder, split) for split in ("train", "test"))
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, held = (x - mean) / deviation, (held - mean) / deviation
    weights = np.linalg.solve(x.T @ x + ridge * len(x) / 10 * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return srcc(held @ weights, truth)


def _features(slowfast: SlowFast, folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    items: Sequence[Any] = read_dataset("lsvq", str(folder), split).items
    found = torch.stack([slowfast.features(read_video(item.path).frames) for item in items])
    return found.double().numpy(), np.array([item.scores["overall"] for item in items])
