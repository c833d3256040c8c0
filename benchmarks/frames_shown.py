"""How much of a short clip should a judge be shown? ``python -m benchmarks.frames_shown [--output DIR] [--seeds 3]``.

Clips of shapes world, 16 frames in 2 seconds as T2V-Turbo draws them, are shown to the tiny judge with the 7B model's
two positions a second. It learns, supervised, to say of a clip whether it flickers (4 frames, somewhere) and whether
its order is right (in half of them two neighbouring pairs of frames change places), and is asked of clips that it never
saw. The same judge learns from 4 frames (VQ-Insight's 2 a second, 4 to 16), from 8 (as many as have positions of their
own), from all 16 with neighbours in one position, and from all 16 told as twice as long. Interrupted, it goes on.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table

from reward_model.judging import local
from reward_model.judging.local import Judge
from reward_model.parsing import parse_option
from reward_model.prompts import Prompts, TaskPrompts
from reward_model.questions import OptionQuestion, View
from reward_model.training import sft
from reward_model.training.config import GRPOTraining
from shapes_world.build_judge import PROMPT
from shapes_world.degradations import flicker
from shapes_world.world import all_scenes, draw, trajectory
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.store import read_json, write_json
from videoduet.video import write_video

FRAMES, FPS, PER_SECOND = 16, 8, 2
TRAIN, HELD_OUT, STEPS, BATCH = 1200, 300, 400, 16
WORDING = TaskPrompts(system="", question="{question}")
QUESTIONS = {"flicker": "steady", "order": "direction"}
"""Words that the tiny judge knows."""
ARMS = {
    "4 frames, true time": (4, True),
    "8 frames, true time": (8, True),
    "16 frames, two patches in one position": (16, False),
    "16 frames, told as twice as long": (16, True),
}
"""The frames shown, and whether patches keep positions of their own."""


def clip(rng: np.random.Generator, flickers: bool, ordered: bool) -> np.ndarray:
    """Frames uint8 (16, 32, 32, 3) of a scene that moves."""
    scenes = all_scenes()
    scene = scenes[rng.integers(len(scenes))]
    path = trajectory(scene, rng)
    at = np.linspace(0, len(path) - 1, FRAMES)
    frames = draw(scene, np.stack([np.interp(at, np.arange(len(path)), axis) for axis in path.T], axis=1))
    frames = np.asarray(frames, dtype=float)
    if flickers:
        start = int(rng.integers(FRAMES - 4))
        frames[start : start + 4] = flicker(frames[start : start + 4], 0.6, rng)
    if not ordered:
        # Frames go into the vision tower in twos, so within a pair order could be seen without positions.
        first = 2 * int(rng.integers(1, FRAMES // 2 - 2))
        frames[first : first + 4] = frames[[first + 2, first + 3, first, first + 1]]
    return np.clip(frames, 0, 255).astype(np.uint8)


def write_clips(folder: Path, count: int, seed: int) -> list[dict]:
    """``count`` clips with what is true of each; written once."""
    if (kept := folder / "clips.json").exists():
        return read_json(kept)
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        flickers, ordered = (bool(rng.integers(2)) for _ in range(2))
        path = str((folder / f"{number}.mp4").absolute())
        write_video(path, clip(rng, flickers, ordered), FPS)
        rows.append({"path": path, "flicker": "no" if flickers else "yes", "order": "yes" if ordered else "no"})
    write_json(kept, rows)
    return rows


def judge_with_positions(folder: Path) -> Path:
    """The judge that ships, with ``PER_SECOND`` positions a second."""
    if not folder.exists():
        shutil.copytree(resolve("shapes_world/models/judge"), folder)
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"]["tokens_per_second"] = PER_SECOND
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def asked(row: dict, name: str, view: View) -> OptionQuestion:
    """What is asked about a clip."""
    return WORDING.choose([row["path"]], QUESTIONS[name], ("yes", "no"), view)


def measure(arm: str, seed: int, output: Path) -> dict[str, float]:
    """The accuracy of each question on held-out clips, after learning; kept in ``output``."""
    if (kept := output / f"{seed} {arm}.json").exists():
        return read_json(kept)
    frames, apart = ARMS[arm]
    prompt = replace(PROMPT, num_frames=frames, max_new_tokens=8)
    train, test = (write_clips(output / name, n, s) for name, n, s in (("train", TRAIN, 1), ("test", HELD_OUT, 2)))
    rng = np.random.default_rng(seed)
    lessons = []
    for _ in range(STEPS * BATCH):
        row, name = train[rng.integers(len(train))], list(QUESTIONS)[rng.integers(len(QUESTIONS))]
        right = {"kind": "question", "options": ["yes", "no"], "preferred": row[name]}
        lessons.append({"prompt": asked(row, name, prompt.view).messages, "right": json.dumps(right)})
    training = GRPOTraining(
        method="sft", parameters="all", vision="all", steps=STEPS, pairs_per_step=BATCH, learning_rate=5e-4,
        micro_batch=BATCH, checkpoint_steps=100,
    )  # fmt: skip
    folder = output / f"{seed} {arm}"
    told = sft.tokens_per_second if apart else lambda _: None
    with patch.object(sft, "tokens_per_second", told), patch.object(local, "tokens_per_second", told):
        sft.run_sft(
            judge_with_positions(output / "judge"), lessons, folder, training, seed=seed, prompt=prompt,
            counts={"items": TRAIN}, kept=Prompts(prompt),
        )  # fmt: skip
        judge = Judge.from_pretrained(folder / "model", device="cpu", batch_size=64)
        found = {}
        for name in QUESTIONS:
            answers = judge.answer(asked(row, name, prompt.view) for row in test)
            said = [parse_option(answer.text, ("yes", "no")) for answer in answers]
            found[name] = float(np.mean([s == row[name] for s, row in zip(said, test, strict=True)]))
    write_json(kept, found)
    shutil.rmtree(folder)
    return found


def main(output: str = "runs/frames_shown", seeds: int = 3, arms: list[str] | None = None) -> None:
    """Teach the judge, and measure what it sees.

    Args:
        output: Where clips and results are kept.
        seeds: Trainings of each arm.
        arms: Those to run (None: all).
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    table = Table("shown", *QUESTIONS, title=f"right of {HELD_OUT} held-out clips, {seeds} trainings")
    for arm in arms or ARMS:
        found = [measure(arm, seed, Path(output)) for seed in range(seeds)]
        table.add_row(arm, *(", ".join(f"{each[name]:.2f}" for each in found) for name in QUESTIONS))
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False)
