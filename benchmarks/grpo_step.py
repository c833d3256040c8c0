"""One GRPO step of a video judge: ``python -m benchmarks.grpo_step`` (``--size 7b`` on a GPU).

*Released*: as the papers' code trains, each rollout encodes its videos anew and a batch holds one prompt. *Here*: all
prompts of a step in one batch, each video encoded once for all its rollouts and forwards, and each prompt once in a
forward for log-probabilities. Both train a LoRA on the same pairs of videos, built as a training builds it (on a GPU
the base in bfloat16 and the LoRA in float32); weights are random at 7b. The loss of one batch of rollouts is compared
both ways.
"""

import gc
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import CLI
from rich.table import Table
from transformers import (
    AutoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLVideoProcessor,
)

from reward_model.datasets import PreferenceItem, Reading
from reward_model.judging.loading import load_model
from reward_model.prompts import JudgePrompt, TaskPrompts
from reward_model.training.config import GRPOTraining, RewardConfig
from reward_model.training.mixture import Ingredient, stage_rows
from reward_model.training.policy import policy_of, precision
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import build_trainer
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.video import write_video

SHIPPED = "shapes_world/models/judge"
PARTS = ("generate, reference and rewards", "loss and gradient")


@dataclass(frozen=True)
class Size:
    """How large a step is: prompts, rollouts of each, frames of a video, their side in pixels, tokens of an answer."""

    prompts: int
    group: int
    frames: int
    side: int
    tokens: int


SIZES = {"toy": Size(4, 8, 8, 32, 32), "7b": Size(2, 8, 8, 252, 512)}


def write_pairs(folder: Path, size: Size) -> Reading:
    """Pairs of noise videos: what is shown does not matter to the time it takes."""
    rng, items = np.random.default_rng(0), []
    for index in range(size.prompts):
        paths = [str(folder / f"{index}{side}.mp4") for side in "ab"]
        for path in paths:
            write_video(path, rng.integers(0, 256, (size.frames, size.side, size.side, 3), dtype=np.uint8), 8)
        items.append(PreferenceItem(first=paths[0], second=paths[1], prompt="a clip", preferred={"overall": "first"}))
    return Reading("noise", "all", items)


def load(name: str) -> tuple[torch.nn.Module, Any, JudgePrompt]:
    """Model, processor and prompt: the shipped judge, or random weights in the shape of Qwen2.5-VL-7B in bfloat16."""
    path = resolve(SHIPPED)
    processor, prompt = AutoProcessor.from_pretrained(path), JudgePrompt.load(path)
    held = precision(path, GRPOTraining(), _device())
    if name == "toy":
        return load_model(path, dtype=held), processor, prompt
    shipped = Qwen2_5_VLConfig.from_pretrained(path)
    special = {key: getattr(shipped, key) for key in ("image_token_id", "video_token_id", "vision_start_token_id",
                                                      "vision_end_token_id")}  # fmt: skip
    text = dict(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=32768, bos_token_id=shipped.text_config.bos_token_id,
        eos_token_id=shipped.text_config.eos_token_id, pad_token_id=shipped.text_config.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    )  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config={"out_hidden_size": 3584}, **special)
    torch.set_default_dtype(getattr(torch, held))
    with torch.device("cuda"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = shipped.text_config.eos_token_id
    model.generation_config.pad_token_id = shipped.text_config.pad_token_id
    processor.video_processor = Qwen2VLVideoProcessor()
    return model, processor, prompt


def make_trainer(
    name: str, size: Size, folder: Path, share: bool, loaded: tuple[torch.nn.Module, Any, JudgePrompt] | None = None
) -> tuple[StageTrainer, list[dict]]:
    """A trainer, and the rows of one step, each prompt once for each of its rollouts. ``loaded`` is what :func:`load`
    returns (None: it is loaded here).
    """
    model, processor, prompt = loaded or load(name)
    reading = write_pairs(folder, size)
    asked = replace(prompt, num_frames=size.frames, max_new_tokens=size.tokens)
    rows = stage_rows(
        [Ingredient(reading)], steps=1, per_step=size.prompts, scale=(0, 100), prompts=TaskPrompts(),
        judge_prompt=asked, seed=0,
    )  # fmt: skip
    config = GRPOTraining(
        steps=1, pairs_per_step=size.prompts, num_generations=size.group, kl_weight=0.04,
        micro_batch=size.prompts * size.group,
    )  # fmt: skip
    trainer: Any = build_trainer(
        policy_of(model, resolve(SHIPPED), config, _device()), processor, rows, folder / "out", config, seed=0,
        prompt=asked, reward_weights=[1.0, 1.0],
        trainer_class=partial(StageTrainer, rewards=RewardConfig(), perturbation_seed=0, share_videos=share),
    )  # fmt: skip
    trainer.generation_config.min_new_tokens = size.tokens
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            # Not nothing from the start, since without a KL the loss would compare nothing; and little, since much of
            # an adapter as random as A would be last bits.
            torch.nn.init.normal_(weight, std=0.01)
    trainer.current_gradient_accumulation_steps = 1
    if torch.cuda.is_available():
        _checkpoint(trainer.model)
    return trainer, [row for row in rows for _ in range(size.group)]


def _checkpoint(model: Any) -> None:
    """Keep few activations, as training does: it turns that on where it begins, and nothing here begins it."""
    model.gradient_checkpointing_enable()


def timed_step(trainer: StageTrainer, rows: list[dict], batch: int) -> tuple[dict[str, float], int]:
    """Seconds of each part of a step in batches of ``batch`` rollouts, and the tokens generated."""
    seconds, tokens = dict.fromkeys(PARTS, 0.0), 0
    trainer.model.train()
    for start in range(0, len(rows), batch):
        began = _now()
        scored = trainer._generate_and_score_completions(rows[start : start + batch])
        middle = _now()
        trainer.compute_loss(trainer.model, scored).backward()
        seconds[PARTS[0]] += middle - began
        seconds[PARTS[1]] += _now() - middle
        tokens += int(scored["completion_mask"].sum())
    trainer.model.zero_grad()
    return seconds, tokens


def _device() -> str:
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _now() -> float:
    """Seconds; of CPU time where there is no GPU, so that other work on the machine does not count."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main(size: Literal["toy", "7b"] = "toy", repeats: int = 3) -> None:
    """Time a GRPO step.

    Args:
        size: toy (the shipped judge), or 7b (random weights, on a GPU).
        repeats: Steps timed; the fastest counts.
    """
    shape, table = SIZES[size], Table("way", *PARTS, "tokens/s", "peak memory", title=f"{size}: {SIZES[size]}")
    losses, rates = {}, {}
    with tempfile.TemporaryDirectory() as name:
        scored = None
        for way, share, batch in (("here", True, shape.prompts * shape.group), ("released", False, shape.group)):
            trainer, rows = make_trainer(size, shape, Path(name), share)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            timed_step(trainer, rows[: shape.group], shape.group)
            runs = [timed_step(trainer, rows, batch) for _ in range(repeats)]
            seconds, tokens = min(runs, key=lambda run: sum(run[0].values()))
            rates[way] = tokens / sum(seconds.values())
            memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else "–"
            table.add_row(way, *(f"{seconds[part]:.2f} s" for part in PARTS), f"{rates[way]:.0f}", memory)
            scored = trainer._generate_and_score_completions(rows) if scored is None else scored
            with torch.no_grad():
                losses[way] = float(trainer.compute_loss(trainer.model, scored))
            # A model of 15 GB that refers to itself is not gone when it is forgotten.
            del trainer
            gc.collect()
    console.print(table)
    console.print(
        f"{rates['here'] / rates['released']:.2f} times the tokens per second; the loss of the same rollouts is "
        f"{losses['here']:.6f} and {losses['released']:.6f}."
    )


if __name__ == "__main__":
    CLI(main, as_positional=False)
