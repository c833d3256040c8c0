"""GRPO of an InternVL in as many processes as are started, with given answers, as what is drawn depends on them."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import PartialState
from small_judge import SMALL_PROMPT

from reward_model.training.config import GRPOTraining
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.trainer import run_grpo

PROMPT = replace(SMALL_PROMPT, max_new_tokens=6)
TRAINING = GRPOTraining(
    steps=3, pairs_per_step=2, num_generations=4, learning_rate=1e-3, lora_rank=2, micro_batch=8, kl_weight=0.1
)
CONFIGS = {"lora": TRAINING, "all and vision": replace(TRAINING, parameters="all", vision="all", learning_rate=1e-4)}


class Given(VideoGRPOTrainer):
    """Answers by the place of their rollout in the step."""

    def _generate_single_turn(self, prompt_ids, images, fields, *rest):
        first = self.accelerator.process_index * len(prompt_ids)
        said = [f"<answer>{(first + row) % 3}</answer><|im_end|>" for row in range(len(prompt_ids))]
        return [self.processing_class.tokenizer(text).input_ids for text in said], None


def reward(completions: list, **_) -> list[float]:
    return [float(sum(map(ord, completion[0]["content"])) % 5) for completion in completions]


def main(judge: str, clips: str, output: str) -> None:
    PartialState(cpu=True)
    names = ("red", "blue", "green", "white")
    rows = [
        {"prompt": PROMPT.messages("red", f"{clips}/{a}.mp4", f"{clips}/{b}.mp4")}
        for a, b in zip(names, names[1:] + names[:1], strict=True)
    ] * 2
    for name, config in CONFIGS.items():
        run_grpo(
            judge, rows[: config.steps * config.items_per_step], Path(output) / name, config, seed=4, prompt=PROMPT,
            trainer_class=partial(Given, reward_funcs=[reward], share_videos=True), reward_weights=[1.0], counts={},
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
