"""The trainer of AIGV-Assessor's stages: checkpoints of what is trained alone, and a stop at the best validation.

The release picks its best epoch by the correlation on the test set; here a part of the training prompts is held out.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reward_model.training.assessor_loss import AssessorLoss
from videoduet.seeding import seed_for
from videoduet.store import write_tensors

WEIGHTS = "trained.safetensors"
CHECKPOINTS = 2
"""Checkpoints that are kept, from either of which a training may go on."""
KEPT = CHECKPOINTS + 1
"""Best weights that are kept: the best of now, and that before each checkpoint, as training may go on from there."""


class AssessorTrainer(Trainer):
    """Rows are shown in their order, ``at_once`` in a forward; ``held_out`` rows are what it is validated on."""

    def __init__(self, *args: Any, held_out: Sequence[dict[str, Any]], at_once: int, **kwargs: Any):
        self.held_out, self.at_once = held_out, at_once
        shown: Any = list(held_out) or None
        super().__init__(*args, data_collator=_as_they_are, eval_dataset=shown, **kwargs)

    @property
    def lesson(self) -> AssessorLoss:
        """The loss that is trained, however it is wrapped."""
        found: Any = self.accelerator.unwrap_model(self.model)
        return found

    def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
        return SequentialSampler(range(len(self.train_dataset)))  # pyright: ignore[reportArgumentType]

    def compute_loss(self, model: nn.Module, inputs: list[dict], *_: Any, **__: Any) -> Tensor:
        """The mean loss of some rows. What a LoRA drops follows from the rows, not from the process or from before."""
        with torch.random.fork_rng():
            torch.manual_seed(seed_for("dropout", inputs[0]["seed"]))
            return model(inputs).mean()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean loss of all that is held out, ``validation``, which is logged."""
        state, lesson = self.accelerator.state, self.lesson
        parts = [(i, self.held_out[i : i + self.at_once]) for i in range(0, len(self.held_out), self.at_once)]
        was = lesson.training
        lesson.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            mine = [(i, lesson(part).tolist()) for i, part in parts[state.process_index :: state.num_processes]]
        lesson.train(was)
        # In the order of the rows, whoever looked at them.
        losses = [loss for _, part in sorted(gather_object(mine)) for loss in part]
        metrics = {"validation": math.fsum(losses) / len(losses)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def best(self, log: Sequence[dict[str, Any]]) -> int | None:
        """The step of the best validation in a ``log``, the first of those alike; None where nothing is held out."""
        found = [(row["validation"], row["step"]) for row in log if "validation" in row]
        return min(found)[1] if found else None

    def best_file(self, step: int) -> Path:
        """Where what was trained until ``step`` is kept."""
        return Path(str(self.args.output_dir)).parent / "best" / f"{step:08d}.safetensors"

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        write_tensors(folder / WEIGHTS, trained(self.lesson))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        best_weights(self.lesson, Path(resume_from_checkpoint) / WEIGHTS)


class StopEarly(TrainerCallback):
    """Keeps what is trained wherever it is better than ever, and stops after ``patience`` validations without that."""

    def __init__(self, trainer: AssessorTrainer, patience: int):
        self.trainer, self.patience = trainer, patience

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The last step is validated too."""
        if state.global_step >= args.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep it, or stop."""
        best = self.trainer.best(state.log_history)
        if best is not None and best == state.global_step and state.is_world_process_zero:
            file = self.trainer.best_file(best)
            write_tensors(file, trained(self.trainer.lesson))
            for older in sorted(file.parent.glob(f"*{file.suffix}"))[:-KEPT]:
                older.unlink()
        since = [row["step"] for row in state.log_history if "validation" in row and row["step"] > (best or 0)]
        if len(since) >= self.patience:
            control.should_training_stop = True
            # What goes on from a checkpoint of the last step would take one more.
            control.should_save = False


def trained(module: nn.Module) -> dict[str, Tensor]:
    """What is trained of ``module``, on the CPU."""
    return {name: value.detach().cpu().contiguous() for name, value in module.named_parameters() if value.requires_grad}


def best_weights(module: nn.Module, file: Path) -> None:
    """Put what :func:`trained` gave and ``file`` holds back into ``module``. Raises ValueError for another's."""
    state, own = load_file(file), {name: value for name, value in module.named_parameters() if value.requires_grad}
    if state.keys() != own.keys():
        raise ValueError(f"{file} holds the weights of another training: {json.dumps(sorted(state)[:3])}")
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def _as_they_are(rows: list[dict]) -> Any:
    return rows
