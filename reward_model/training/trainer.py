"""Train a judge on labelled pairs by GRPO, with a LoRA on a frozen base."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig

from reward_model.encoding import ShowingEncoder
from reward_model.judging.loading import base_directory, load_model, load_processor
from reward_model.parsing import parse_choice
from reward_model.prompts import JudgePrompt
from reward_model.rewards import comparison_reward, format_reward
from reward_model.training.config import GRPOTraining
from reward_model.training.diagnosis import diagnose
from reward_model.training.grpo import SPECIAL_VISION_TOKENS, VideoGRPOTrainer
from videoduet.adapters import put_into
from videoduet.config import SCHEMA_VERSION, refuse_newer
from videoduet.errors import InputError
from videoduet.loading import some
from videoduet.records import LabelledPair
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, whole_file, write_bytes, write_json

COMPLETE = "complete"
"""A file that marks a checkpoint as whole, and holds the version of its form: the trainer itself does not write
checkpoints atomically."""


def accuracy_reward(completions: list, preferred: list[str], **_) -> list[float]:
    """Comparison reward of each completion against the label of its showing."""
    texts = [completion[0]["content"] for completion in completions]
    return [comparison_reward(parse_choice(text), label) for text, label in zip(texts, preferred, strict=True)]


def tags_reward(completions: list, **_) -> list[float]:
    """Format reward of each completion."""
    return [format_reward(completion[0]["content"]) for completion in completions]


def showings(pairs: Sequence[LabelledPair], prompt: JudgePrompt, seed: int, count: int) -> list[dict]:
    """``count`` rows in the order of training: all pairs again and again, each time in an order of its own.

    The two videos of a row are in a seeded 50/50 order with the label flipped to match, so that no position is worth
    learning. All rows are laid out at once, as a trainer that is resumed in its second epoch does not know in which
    order the first one left its sampler.
    """
    visits = -(-count // len(pairs))
    order = [
        (visit, int(index))
        for visit in range(visits)
        for index in np.random.default_rng(seed_for(seed, "visit", visit)).permutation(len(pairs))
    ]
    rows = []
    for visit, index in order[:count]:
        pair, swap = pairs[index], bool(np.random.default_rng(seed_for(seed, "order", visit, index)).integers(2))
        videos = (pair.second.path, pair.first.path) if swap else (pair.first.path, pair.second.path)
        label = {"first": "second", "second": "first"}[pair.preferred] if swap else pair.preferred
        rows.append({"prompt": prompt.messages(pair.prompt.text, *videos), "preferred": label})
    return rows


class _Marks(TrainerCallback):
    """Marks whole checkpoints, and tells the caller of each step."""

    def __init__(self, on_step: Callable[[int], None] | None):
        self.on_step = on_step

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written."""
        # Only what every process has written is whole.
        PartialState().wait_for_everyone()
        mark = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / COMPLETE
        write_bytes(mark, str(SCHEMA_VERSION).encode())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell the caller, and save nothing after the last step."""
        if state.global_step >= args.max_steps:
            # A trainer resumed from a checkpoint of its very last step would take one step more.
            control.should_save = False
        if self.on_step is not None:
            self.on_step(state.global_step)


def _last_checkpoint(directory: Path) -> str | None:
    """The newest whole checkpoint; torn ones are removed, by the first process while the others wait."""
    with PartialState().main_process_first():
        return _whole_checkpoint(directory)


def _whole_checkpoint(directory: Path) -> str | None:
    found = {}
    for path in directory.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            # The first form had an empty mark.
            refuse_newer(int((path / COMPLETE).read_text() or 0), f"Checkpoint {path}")
            found[int(path.name.split("-")[1])] = str(path)
        else:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def _arguments(
    config: GRPOTraining, output_dir: Path, max_new_tokens: int, suppressed: list[int], seed: int, weights: list[float]
) -> GRPOConfig:
    rollouts, processes = config.pairs_per_step * config.num_generations, PartialState().num_processes
    if rollouts % processes:
        raise InputError(
            f"{config.pairs_per_step} pairs x {config.num_generations} rollouts cannot be shared by {processes} "
            "processes; give numbers that divide."
        )
    mine = rollouts // processes
    micro_batch = max(size for size in range(1, min(config.micro_batch, mine) + 1) if mine % size == 0)
    return GRPOConfig(
        output_dir=str(output_dir),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=mine // micro_batch,
        num_generations=config.num_generations,
        max_completion_length=max_new_tokens,
        max_steps=config.steps,
        shuffle_dataset=False,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=2,
        beta=config.kl_weight,
        use_bias_correction_kl=False,
        loss_type="grpo",
        reward_weights=weights,
        generation_kwargs={"suppress_tokens": suppressed},
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        seed=seed % 2**31,
        log_level="error",
    )


def train_judge(
    path: str | Path,
    pairs: Sequence[LabelledPair],
    output_dir: Path,
    config: GRPOTraining,
    *,
    seed: int,
    prompt: JudgePrompt | None = None,
    adapter: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict:
    """A summary of GRPO of the judge at ``path`` on ``pairs``, whose LoRA is written to ``output_dir/adapter``.

    It is asked in the words of ``prompt`` (None: those that are kept beside its weights, else the general ones).
    ``adapter`` (a LoRA on the same base) is where training starts; the KL reference is the base without any adapter.
    Interrupted, the same call goes on at the last whole checkpoint and ends with the same bytes. The summary holds
    ``steps``, ``pairs``, ``reward_first`` and ``reward_last`` (means over the first and last tenth of the steps, at
    least one), and ``notes`` where something kept the judge from learning.
    """
    prompt = prompt or JudgePrompt.load(base_directory(path))
    return run_grpo(
        path,
        showings(pairs, prompt, seed, config.steps * config.pairs_per_step),
        output_dir,
        config,
        seed=seed,
        prompt=prompt,
        trainer_class=partial(VideoGRPOTrainer, reward_funcs=[accuracy_reward, tags_reward], share_videos=True),
        reward_weights=[1.0, config.format_weight],
        counts={"pairs": len(pairs)},
        adapter=adapter,
        on_step=on_step,
    )


def run_grpo(
    path: str | Path,
    rows: list[dict],
    output_dir: Path,
    config: GRPOTraining,
    *,
    seed: int,
    prompt: JudgePrompt,
    trainer_class: Callable[..., VideoGRPOTrainer],
    reward_weights: list[float],
    counts: dict[str, int],
    adapter: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict:
    """What GRPO of the judge at ``path`` on ``rows``, in their order, came to, as :func:`train_judge` says of pairs.

    ``prompt`` says how many frames are shown and how long an answer may be; ``trainer_class`` brings the rewards,
    ``reward_weights`` their weights. The summary holds ``counts`` too.
    """
    if (kept := output_dir / "training.json").exists():
        return _kept(kept, counts)
    checkpoints = output_dir / "checkpoints"
    model, processor = load_model(path), load_processor(base_directory(path))
    # A video token in an answer would stand for a video that is not there.
    suppressed = processor.tokenizer.convert_tokens_to_ids(list(SPECIAL_VISION_TOKENS))
    # The trainer makes the LoRA before it seeds anything.
    torch.manual_seed(seed_for(seed, "lora"))
    trainer = trainer_class(
        model=model,
        processing_class=processor,
        args=_arguments(config, checkpoints, prompt.max_new_tokens, suppressed, seed, reward_weights),
        train_dataset=Dataset.from_list(rows),
        peft_config=_lora(config, path),
        callbacks=[_Marks(on_step)],
        encoder=ShowingEncoder.for_view(processor, prompt.view),
    )
    # Metrics are kept in the log; the terminal belongs to the progress bar.
    trainer.remove_callback(PrinterCallback)
    if adapter is not None:
        # A PeftModel handed to the trainer would get a copy of its adapter as reference; the reference here is the
        # base.
        put_into(trainer.model, adapter, "judge")
    _check_batch(trainer, config.pairs_per_step * config.num_generations)
    trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoints))
    trainer.stop_sharing()
    log = trainer.state.log_history
    summary = {"steps": trainer.state.global_step, **counts, **_rise(log)}
    if notes := diagnose(log, prompt.max_new_tokens):
        summary["notes"] = notes
    if trainer.accelerator.is_main_process:
        with atomic_path(output_dir / "adapter") as temporary:
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(temporary)
        write_json(output_dir / "training.json", {**summary, "log": log})
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return summary


def _kept(path: Path, counts: dict[str, int]) -> dict:
    """The summary that a finished training left. Raises InputError where the file is damaged."""
    with whole_file(path):
        summary = {name: value for name, value in read_json(path).items() if name != "log"}
        if lacking := {"steps", "reward_first", "reward_last", *counts} - summary.keys():
            raise ValueError(f"it lacks {some(lacking)}")
        return summary


def _check_batch(trainer: VideoGRPOTrainer, rollouts: int) -> None:
    """Raises InputError where a step would hold another number of rollouts, as a launcher's settings may have it."""
    held, steps = trainer.get_total_train_batch_size(trainer.args), trainer.args.gradient_accumulation_steps
    # DeepSpeed takes a step when its own config says so.
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    given = plugin.deepspeed_config.get("gradient_accumulation_steps", "auto") if plugin is not None else "auto"
    held = held if given == "auto" else held // steps * int(given)
    if held != rollouts:
        raise InputError(
            f"The launcher makes a step of {held} rollouts instead of {rollouts}; take gradient_accumulation_steps out "
            "of its config, and start one process for each GPU (accelerate launch) or show it one alone "
            "(CUDA_VISIBLE_DEVICES=0)."
        )


def _lora(config: GRPOTraining, path: str | Path) -> LoraConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_rank,
        target_modules=r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        base_model_name_or_path=str(path),
    )


def _rise(log: Sequence[dict]) -> dict[str, float]:
    """The mean reward at first and at last."""
    rewards = [row["reward"] for row in log if "reward" in row]
    tenth = max(1, len(rewards) // 10)
    return {"reward_first": float(np.mean(rewards[:tenth])), "reward_last": float(np.mean(rewards[-tenth:]))}
