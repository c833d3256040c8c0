"""A training from its first step, or its last checkpoint, to what it leaves: the same for rewards and for answers."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PrinterCallback, Trainer

from reward_model.prompts import Prompts
from reward_model.training.checkpoints import last_checkpoint
from reward_model.training.config import GRPOTraining
from reward_model.training.policy import leave
from reward_model.training.shards import ShardingTrainer, plainly_named, whole_weights
from videoduet.adapters import put_into
from videoduet.errors import InputError
from videoduet.loading import some
from videoduet.processes import processes
from videoduet.store import read_json, whole_file, write_json


def finish(
    trainer: ShardingTrainer,
    processor: Any,
    output_dir: Path,
    config: GRPOTraining,
    *,
    kept: Prompts,
    adapter: Path | None,
    at_once: int,
    summarise: Callable[[Sequence[dict]], dict[str, Any]],
) -> dict:
    """The summary of a training to its end, from ``adapter`` or the last checkpoint on; what is trained is written, and
    ``kept`` beside it. ``at_once`` rows make a step, and ``summarise`` says what the log comes to.
    """
    checkpoints = output_dir / "checkpoints"
    # Metrics are kept in the log; the terminal belongs to the progress bar.
    trainer.remove_callback(PrinterCallback)
    model: Any = trainer.model
    if adapter is not None:
        # A PeftModel handed to GRPO's trainer would get a copy of its adapter as reference; the reference here is the
        # base.
        put_into(model, adapter, "judge")
    check_batch(trainer, at_once)
    trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
    trainer.stop_sharing()
    log = trainer.state.log_history
    summary = {"steps": trainer.state.global_step, **summarise(log)}
    weights = whole_weights(model) if trainer.shards and config.parameters == "all" else None
    plainly_named(model)
    if trainer.accelerator.is_main_process:
        leave(trainer.accelerator.unwrap_model(model), weights, processor, kept, output_dir, config)
        write_json(output_dir / "training.json", {**summary, "log": log})
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return summary


def kept_summary(path: Path, counts: dict[str, int], measure: str) -> dict:
    """The summary that a finished training left. Raises InputError where the file is damaged."""
    # A kill may have come between the summary and the end of what led to it.
    shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
    with whole_file(path):
        summary = {name: value for name, value in read_json(path).items() if name != "log"}
        if lacking := {"steps", f"{measure}_first", f"{measure}_last", *counts} - summary.keys():
            raise ValueError(f"it lacks {some(lacking)}")
        return summary


def rise(log: Sequence[dict], measure: str) -> dict[str, float]:
    """The mean of what a training is measured by ('reward', 'loss') over the first and the last tenth of its steps."""
    values = [row[measure] for row in log if measure in row]
    tenth = max(1, len(values) // 10)
    return {f"{measure}_first": float(np.mean(values[:tenth])), f"{measure}_last": float(np.mean(values[-tenth:]))}


def micro_batch(rows: int, most: int, what: str) -> tuple[int, int]:
    """How many of ``rows`` this process has, and how many of these go through the model at once, at most ``most``.

    Raises InputError where processes cannot share them; ``what`` they are called.
    """
    count = processes().num_processes
    if rows % count:
        raise InputError(f"{what} cannot be shared by {count} processes; give numbers that divide.")
    mine = rows // count
    return mine, max(size for size in range(1, min(most, mine) + 1) if mine % size == 0)


def check_batch(trainer: Trainer, rows: int) -> None:
    """Raises InputError where a step would hold another number of rows, as a launcher's settings may have it."""
    held, steps = trainer.get_total_train_batch_size(trainer.args), trainer.args.gradient_accumulation_steps
    # DeepSpeed takes a step when its own config says so.
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    given = plugin.deepspeed_config.get("gradient_accumulation_steps", "auto") if plugin is not None else "auto"
    held = held if given == "auto" else held // steps * int(given)
    if held != rows:
        raise InputError(
            f"The launcher makes a step of {held} rollouts instead of {rows}; take gradient_accumulation_steps out "
            "of its config, and start one process for each GPU (accelerate launch) or show it one alone "
            "(CUDA_VISIBLE_DEVICES=0)."
        )
