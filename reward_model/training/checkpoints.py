"""Checkpoints of a training: which are whole, and where it goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from videoduet.config import SCHEMA_VERSION, refuse_newer
from videoduet.store import write_bytes

COMPLETE = "complete"
"""A file that marks a checkpoint as whole, and holds the version of its form: the trainer itself does not write
checkpoints atomically."""


class Marks(TrainerCallback):
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


def last_checkpoint(directory: Path) -> str | None:
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
