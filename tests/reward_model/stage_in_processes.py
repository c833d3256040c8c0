"""One step of a stage, in as many processes as torchrun starts: what every rollout earned is written to a file.

What is sampled depends on how many processes sample, so answers are given here: each follows from its prompt, its
videos as they are shown, and its place in the group.
"""

import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from small_judge import SMALL_PROMPT

from reward_model.datasets import Reading, ScoredClip
from reward_model.prompts import TaskPrompts
from reward_model.training.config import GRPOTraining, RewardConfig
from reward_model.training.mixture import Ingredient, stage_rows
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import run_grpo

REWARDS = {
    "modeling": RewardConfig(temporal="modeling", length=True, l_min=1, l_max=9),
    "consistency": RewardConfig(score="bell", ranking=True, temporal="consistency"),
    "shrunk": RewardConfig(temporal="modeling", length=True, l_min=1, l_max=9),
    "released": RewardConfig(variant="released", score="bell", ranking=True, temporal="consistency"),
}
SCORES = {"red": 1.0, "green": 5.0, "blue": 2.0, "three_frames": 3.0, "wide": 4.0}
# Twelve rollouts: with two processes the second group is cut in two.
# "shrunk": twelve at once are too many, so one process takes four, and each of two the three that divide its six.
MICRO_BATCH = {"shrunk": 4}
TRAINING = GRPOTraining(steps=2, pairs_per_step=3, num_generations=4, learning_rate=1e-2, lora_rank=2, micro_batch=12)


class Given(StageTrainer):
    """Answers as given, and keeps what they earn, for all processes."""

    def __init__(self, *args, **kwargs):
        self.steps = []
        super().__init__(*args, **kwargs)

    def _generate_single_turn(self, prompt_ids, images, fields, *rest):
        rows = self.args.per_device_train_batch_size * self.args.steps_per_generation
        first = self.accelerator.process_index * rows
        sizes = fields["video_grid_thw"].prod(-1).tolist()
        completions = []
        for row, (ids, patches) in enumerate(zip(prompt_ids, fields["pixel_values_videos"].split(sizes), strict=True)):
            # Each shuffled rollout has frames of its own; the others are told apart by their place.
            place = (first + row) % self.num_generations if len(prompt_ids) == rows else 0
            rng = np.random.default_rng([zlib.crc32(patches.numpy().tobytes()), *ids[-2:], place])
            score = rng.choice(["1", "2", "3", "4", "5", "no idea"])
            text = f"<think>{'red ' * rng.integers(3)}</think><answer>{score}</answer>" if rng.random() < 0.8 else score
            tokens = self.processing_class.tokenizer(text + "<|im_end|>").input_ids
            completions.append(tokens)
        return completions, None

    def _calculate_rewards(self, *args):
        rewards = super()._calculate_rewards(*args)
        self.steps.append({"rewards": rewards.tolist()})
        return rewards

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        mine = [
            (ids[mask.bool()].tolist(), advantage)
            for ids, mask, advantage in zip(
                output["completion_ids"], output["completion_mask"], output["advantages"].tolist(), strict=True
            )
        ]
        self.steps[-1] |= dict(zip(("completions", "advantages"), zip(*gather_object(mine), strict=True), strict=True))
        return output


def main(judge: str, clips: str, output: str) -> None:
    PartialState(cpu=True)  # as every command does first; all that follow are this one
    for name, rewards in REWARDS.items():
        items = [ScoredClip(path=f"{clips}/{clip}.mp4", scores={"overall": score}) for clip, score in SCORES.items()]
        rows = stage_rows(
            [Ingredient(Reading("clips", "all", items, (1.0, 5.0)))], steps=TRAINING.steps,
            per_step=TRAINING.pairs_per_step, scale=(1, 5), prompts=TaskPrompts(system="", score="{low} {high}"),
            judge_prompt=SMALL_PROMPT, seed=4,
        )  # fmt: skip
        trainers = []

        def build(rewards=rewards, trainers=trainers, **arguments):
            trainers.append(Given(rewards=rewards, perturbation_seed=9, **arguments))
            return trainers[-1]

        run_grpo(
            judge, rows, Path(output) / name, replace(TRAINING, micro_batch=MICRO_BATCH.get(name, 12)), seed=4,
            prompt=SMALL_PROMPT, trainer_class=build, reward_weights=[1.0] * len(rewards.columns), counts={},
        )  # fmt: skip
        (trainer,) = trainers
        if trainer.accelerator.is_main_process:
            processes = trainer.accelerator.num_processes
            kept = {"processes": processes, "columns": rewards.columns, "steps": trainer.steps}
            kept["micro_batch"] = trainer.args.per_device_train_batch_size
            (Path(output) / f"{name}.json").write_text(json.dumps(kept))


if __name__ == "__main__":
    main(*sys.argv[1:])
