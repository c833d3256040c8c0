"""Rebuild everything that ships with shapes world from nothing: ``python -m shapes_world.build --output DIR``.

The autoencoder; then, side by side, the generator (diffusion teacher, consistency student) and the judge (describe,
compare, GRPO) with the second judge (another seed and disjoint clips from the comparison stage on); last the prompt
lists and the judge's original data. Finished stages are kept in ``DIR/work``; an interrupted build goes on with the
first one missing.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jsonargparse import CLI
from transformers import Qwen2_5_VLProcessor

from reward_model.judging.loading import load_model
from reward_model.training.config import GRPOTraining
from reward_model.training.trainer import train_judge
from shapes_world.autoencoder import load_autoencoder
from shapes_world.build_generator import GeneratorBuild, build_autoencoder, build_generator
from shapes_world.build_judge import DESCRIBE, PROMPT, JudgeBuild, teach_comparison, teach_description
from shapes_world.judge_data import ClipPair, clip_pairs
from shapes_world.world import FPS, all_scenes
from videoduet.errors import InputError
from videoduet.progress import console, track_steps
from videoduet.records import LabelledPair, Prompt, Video
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, write_bytes, write_json
from videoduet.video import write_video

TRAINING_PROMPTS, HELD_OUT_PROMPTS = 64, 64


@dataclass(frozen=True)
class Build:
    """What is built and how long each part trains; the defaults are what ships."""

    generator: GeneratorBuild = field(default_factory=GeneratorBuild)
    judge: JudgeBuild = field(default_factory=JudgeBuild)
    second_compare_steps: int = 900
    grpo: GRPOTraining = field(default_factory=lambda: GRPOTraining(steps=40, pairs_per_step=8, learning_rate=2e-4))
    grpo_pairs: int = 320
    original_pairs: int = 160
    held_out_pairs: int = 120


def write_pairs(pairs: list[ClipPair], file: Path) -> list[LabelledPair]:
    """Write labelled clips as mp4 and JSON Lines, as :func:`read_labelled_pairs` of ``reward_model`` takes them."""
    rows, labelled = [], []
    for index, pair in enumerate(pairs):
        names = [f"{file.stem}/{index:04d}_{side}.mp4" for side in ("first", "second")]
        for name, clip in zip(names, (pair.first, pair.second), strict=True):
            write_video(file.parent / name, clip.frames, FPS)
        preferred = "first" if pair.gap > 0 else "second"
        rows.append({"prompt": pair.prompt.prompt, "first": names[0], "second": names[1], "preferred": preferred})
        first, second = (Video(id=name, path=str(file.parent / name)) for name in names)
        labelled.append(
            LabelledPair(prompt=Prompt.of(pair.prompt.prompt), first=first, second=second, preferred=preferred)
        )
    write_bytes(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return labelled


def reinforce(taught: Path, output: Path, work: Path, build: Build, vae: AutoencoderKL, seed: int) -> None:
    """GRPO on comparisons of fresh clips, from the supervised judge ``taught``; the LoRA is merged into ``output``."""
    pairs = write_pairs(clip_pairs(build.grpo_pairs, seed, vae), work / f"grpo_{seed}" / "pairs.jsonl")
    with track_steps(f"judge {seed}: GRPO") as on_step:
        summary = train_judge(
            taught, pairs, work / f"grpo_{seed}", build.grpo, seed=seed, on_step=lambda step: on_step({"step": step,
            "steps": build.grpo.steps})
        )  # fmt: skip
    console.print(f"judge {seed}: mean reward {summary['reward_first']:.3f} to {summary['reward_last']:.3f}")
    with atomic_path(output) as temporary:
        load_model(taught, work / f"grpo_{seed}" / "adapter").half().save_pretrained(temporary)
        Qwen2_5_VLProcessor.from_pretrained(taught).save_pretrained(temporary)
        PROMPT.save(temporary)
        DESCRIBE.save(temporary, "describe")


def write_prompts(output: Path) -> None:
    """Training and held-out prompts: disjoint, and each in equal shares of what the world holds."""
    scenes = all_scenes()
    order = np.random.default_rng(seed_for("prompts")).permutation(len(scenes))
    prompts = [scenes[index].prompt for index in order]
    parts = {"prompts.txt": prompts[:TRAINING_PROMPTS], "held_out_prompts.txt": prompts[-HELD_OUT_PROMPTS:]}
    for name, part in parts.items():
        write_bytes(output / name, "".join(prompt + "\n" for prompt in part).encode())


def build_judge(build: Build, part: JudgeBuild, work: Path, output: Path) -> None:
    """One judge, from the stage that describes to the end of GRPO; one that is done is left alone."""
    if output.exists():
        return
    vae, taught, seed = load_autoencoder(work), work / f"taught_{part.seed}", 100 + part.seed
    if not taught.exists():
        # What GRPO made of an earlier one is of no use.
        shutil.rmtree(work / f"grpo_{seed}", ignore_errors=True)
        teach_comparison(part, vae, taught, described=work / "described")
    reinforce(taught, output, work, build, vae, seed)


def _start_worker() -> None:
    """One core each; progress as lines, since two bars would draw over each other; ended by Ctrl-C at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["TTY_COMPATIBLE"] = "0"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(1)


class _Here(Executor):
    """Does in this process, at once, what is submitted."""

    def submit(self, function: Callable, /, *arguments: Any, **named: Any) -> Future:
        future = Future()
        future.set_result(function(*arguments, **named))
        return future


def _executor(jobs: int) -> Executor:
    if jobs == 1:
        return _Here()
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _same_build(build: Build, file: Path) -> None:
    settings = asdict(build)
    if not file.exists():
        write_json(file, settings)
    elif read_json(file) != settings:
        raise InputError(f"{file.parent} holds stages of a build with other settings; give another --output.")


def build_all(build: Build, output: Path, jobs: int = 1) -> None:
    """Build what is missing in ``output``, ``jobs`` parts at a time.

    Raises InputError where ``output`` holds stages of another build.
    """
    work = output / "work"
    _same_build(build, work / "build.json")
    build_autoencoder(build.generator, work)
    second = replace(build.judge, seed=build.judge.seed + 1, compare_steps=build.second_compare_steps)
    with _executor(jobs) as executor:
        parts = [executor.submit(build_generator, build.generator, output / "generator", work)]
        executor.submit(teach_description, build.judge, load_autoencoder(work), work / "described").result()
        for name, part in (("judge", build.judge), ("second_judge", second)):
            parts.append(executor.submit(build_judge, build, part, work, output / name))
        for part in as_completed(parts):
            if part.exception() is not None:
                executor.shutdown(wait=False, cancel_futures=True)
            part.result()
    vae = load_autoencoder(work)
    write_prompts(output)
    write_pairs(clip_pairs(build.original_pairs, 200, vae), output / "judge_data" / "train.jsonl")
    write_pairs(clip_pairs(build.held_out_pairs, 300, vae), output / "judge_data" / "held_out.jsonl")


def main(output: Path, build: Build = Build(), jobs: int = 2, keep_work: bool = True) -> None:
    """Train the tiny generator and both tiny judges from nothing.

    Args:
        output: Where the models go; ``shapes_world/models`` is where the package looks for them.
        build: How long each stage trains.
        jobs: How many parts are built at a time, each on one core; there is work for two.
        keep_work: Keep the finished stages in ``output/work``.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    if all((output / name).exists() for name in ("generator", "judge", "second_judge", "judge_data")):
        console.print(f"{output} is built already; give another --output to build anew.", markup=False)
        return
    try:
        build_all(build, output, jobs)
    except InputError as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    if not keep_work:
        shutil.rmtree(output / "work")


if __name__ == "__main__":
    CLI(main, as_positional=False, description=__doc__)
