"""A judge for the refresh benchmark that has never seen a generated clip: it learns from rendered ones alone.

The judge that ships learnt from clips that went through the generator's autoencoder. This one knows clean shapes, blur,
noise, blocks, flicker and broken order, and nothing of how the generator fails.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Qwen2_5_VLProcessor

from benchmarks.reward_learning_data import shipped_vae
from reward_model.judging.loading import load_model
from reward_model.training.config import GRPOTraining
from reward_model.training.trainer import train_judge
from shapes_world.build import write_pairs
from shapes_world.build_judge import DESCRIBE, PROMPT, JudgeBuild, teach_comparison, teach_description
from shapes_world.degradations import SPATIAL, degrade
from shapes_world.judge_data import TEMPORAL_DAMAGE, ClipPair, DamagedClip, with_errors
from shapes_world.world import Scene, all_scenes, draw, trajectory
from videoduet.seeding import seed_for
from videoduet.store import atomic_path


@dataclass(frozen=True)
class FirstJudge:
    """How long each stage of it takes, and how many pairs it keeps as its own data."""

    build: JudgeBuild = field(default_factory=lambda: JudgeBuild(pairs=3000, describe_steps=1000, compare_steps=900))
    grpo: GRPOTraining = field(default_factory=lambda: GRPOTraining(steps=40, pairs_per_step=8, learning_rate=2e-4))
    grpo_pairs: int = 320
    original_pairs: int = 160
    held_out_pairs: int = 120


def rendered_clip(scene: Scene, seed: int) -> DamagedClip:
    """A clip of ``scene`` with damage that a program made: half of them in their order, half in their pictures."""
    rng = np.random.default_rng(seed_for("rendered", seed))
    frames, quality = draw(scene, trajectory(scene, rng)), {"temporal": 1.0, "spatial": 1.0}
    for kind, names in (("temporal", TEMPORAL_DAMAGE), ("spatial", SPATIAL)):
        if rng.random() < 0.5:
            strength = float(rng.uniform(0.1, 1))
            frames, quality[kind] = degrade(frames, str(rng.choice(names)), strength, rng), 1 - strength
    return DamagedClip(frames, scene, **quality)


def rendered_pairs(count: int, seed: int, min_gap: float = 0.03) -> list[ClipPair]:
    """Pairs of rendered clips whose truth differs by at least ``min_gap``, order random."""
    scenes, pairs, index = all_scenes(), list[ClipPair](), 0
    while len(pairs) < count:
        rng = np.random.default_rng(seed_for("rendered pair", seed, index))
        prompt = scenes[rng.integers(len(scenes))]
        sides = [rendered_clip(with_errors(prompt, rng), seed_for("side", seed, index, side)) for side in (0, 1)]
        if abs((pair := ClipPair(prompt, *sides)).gap) >= min_gap:
            pairs.append(pair)
        index += 1
    return pairs


def first_judge(how: FirstJudge, output: Path) -> Path:
    """The judge's directory; ``train.jsonl`` and ``held_out.jsonl`` beside it are its own data. Stages are kept."""
    described, taught, judge = (output / name for name in ("described", "taught", "judge"))
    if judge.exists():
        return judge
    if not taught.exists():
        vae, pairs = shipped_vae(), rendered_pairs(how.build.pairs, 0)
        teach_description(how.build, vae, described, pairs)
        teach_comparison(how.build, vae, taught, described, pairs)
    for name, count, seed in (("train", how.original_pairs, 2), ("held_out", how.held_out_pairs, 3)):
        write_pairs(rendered_pairs(count, seed), output / f"{name}.jsonl")
    pairs = write_pairs(rendered_pairs(how.grpo_pairs, 1), output / "grpo" / "pairs.jsonl")
    train_judge(taught, pairs, output / "grpo", how.grpo, seed=0)
    model: Any = load_model(taught, output / "grpo" / "adapter")
    with atomic_path(judge) as temporary:
        model.half().save_pretrained(temporary)
        Qwen2_5_VLProcessor.from_pretrained(taught).save_pretrained(temporary)
        PROMPT.save(temporary)
        DESCRIBE.save(temporary, "describe")
    return judge
