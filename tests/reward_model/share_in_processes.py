"""Trainings of a judge in as many processes as are started: a LoRA and all weights, undisturbed and stopped.

Answers are given (see stage_in_processes.py), but for "drawn", as what is drawn depends on how many processes draw.
"""

import json
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import PartialState
from small_judge import SMALL_PROMPT
from stage_in_processes import SCORES, TRAINING, Given

from reward_model.datasets import Reading, ScoredClip
from reward_model.prompts import Prompts, TaskPrompts
from reward_model.training.config import RewardConfig
from reward_model.training.mixture import Ingredient, stage_rows
from reward_model.training.sft import run_sft
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import run_grpo

REWARDS = RewardConfig(temporal="modeling", length=True, l_min=1, l_max=9)
VERSIONS = RewardConfig(temporal="discount")
LORA = replace(TRAINING, pairs_per_step=2, passes=2, steps=3, micro_batch=8, checkpoint_steps=1, kl_weight=0.1)
EVERYTHING = replace(LORA, parameters="all", learning_rate=1e-4)
CONFIGS = {
    "lora": (LORA, Given),
    "versions": (LORA, Given),
    "vision": (replace(LORA, vision="lora"), Given),
    "all": (EVERYTHING, Given),
    "all and vision": (replace(EVERYTHING, vision="all"), Given),
    "answers": (replace(EVERYTHING, method="sft"), None),
    "drawn": (replace(EVERYTHING, learning_rate=1e-5), StageTrainer),
    "drawn, half still": (replace(EVERYTHING, learning_rate=1e-5), StageTrainer),
}


def train(judge: str, clips: str, output: Path, name: str, stop: int | None = None) -> None:
    training, kind = CONFIGS[name]
    rewards = VERSIONS if name == "versions" else REWARDS
    beside = rewards.rows_beside(training.pairs_per_step)
    items = [ScoredClip(path=f"{clips}/{clip}.mp4", scores={"overall": score}) for clip, score in SCORES.items()]
    rows = stage_rows(
        [Ingredient(Reading("clips", "all", items, (1.0, 5.0)))], steps=training.steps * training.passes,
        per_step=training.pairs_per_step, scale=(1, 5), prompts=TaskPrompts(system="", score="{low} {high}"),
        judge_prompt=SMALL_PROMPT, seed=4, versions=rewards.severities, beside=beside,
    )  # fmt: skip
    if "still" in name:
        # Of two processes one has nothing to draw of shuffled clips.
        for row in rows[1::2]:
            row["right"] = json.dumps({**json.loads(row["right"]), "moves": False})

    def on_step(step: int) -> None:
        if step == stop:
            raise KeyboardInterrupt

    if kind is None:
        run_sft(
            judge, rows, output, training, seed=4, prompt=SMALL_PROMPT, counts={}, on_step=on_step,
            kept=Prompts(SMALL_PROMPT),
        )  # fmt: skip
        return
    run_grpo(
        judge, rows, output, training.with_rows(beside), seed=4, prompt=SMALL_PROMPT, counts={}, on_step=on_step,
        trainer_class=partial(kind, rewards=rewards, perturbation_seed=9),
        reward_weights=[1.0] * len(rewards.columns),
    )  # fmt: skip


def main(judge: str, clips: str, output: str) -> None:
    PartialState(cpu=True)  # as every command does first; all that follow are this one
    for name in CONFIGS:
        train(judge, clips, Path(output) / name, name)
        with suppress(KeyboardInterrupt):
            train(judge, clips, Path(output) / f"{name}, stopped", name, stop=2)
        train(judge, clips, Path(output) / f"{name}, stopped", name)


if __name__ == "__main__":
    main(*sys.argv[1:])
