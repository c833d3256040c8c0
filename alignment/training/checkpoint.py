"""The state of a preference training on disk: weights, optimizer and position. A checkpoint is whole or absent."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from torch import Tensor

from alignment.training.metrics import empty_sums
from alignment.training.parallel import Replicated
from alignment.training.sharding import on_main, place
from videoduet.config import SCHEMA_VERSION, refuse_newer
from videoduet.errors import InputError
from videoduet.store import atomic_path, read_json, write_json, write_tensors


@dataclass
class Progress:
    """``step`` optimizer steps are done, ``skipped`` of them without an update; ``sums`` are the metrics' sums over
    all, ``late`` over the last third.
    """

    step: int = 0
    skipped: int = 0
    sums: Tensor = field(default_factory=empty_sums)
    late: Tensor = field(default_factory=empty_sums)


@dataclass
class TrainingState:
    """All that a step changes: the trained parameters and their optimizer, their average, the position.

    ``key`` names the training that it belongs to. Every process must save and load; the main one writes.
    """

    key: str
    parallel: Replicated
    ema: EMAModel | None
    progress: Progress

    def save(self, folder: Path) -> None:
        """Write ``folder/step_N`` and then remove older ones."""
        state, weights = self.parallel.optimizer_state(), on_main(self.parallel.parameters)
        average = {}
        if self.ema is not None:
            average = on_main(dict(zip(self.parallel.parameters, self.ema.shadow_params, strict=True)))
        if PartialState().is_main_process:
            self._write(folder, weights, state, average)
        PartialState().wait_for_everyone()

    def _write(
        self, folder: Path, weights: dict[str, Tensor], state: dict[str, Tensor | float], average: dict[str, Tensor]
    ) -> None:
        path = folder / f"step_{self.progress.step:08d}"
        with atomic_path(path) as temporary:
            write_tensors(temporary / "weights.safetensors", weights)
            tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            write_tensors(temporary / "optimizer.safetensors", tensors)
            if average:
                write_tensors(temporary / "ema.safetensors", average)
            position = {
                "schema_version": SCHEMA_VERSION,
                "key": self.key,
                "step": self.progress.step,
                "skipped": self.progress.skipped,
                "sums": self.progress.sums.tolist(),
                "late": self.progress.late.tolist(),
                "ema_step": self.ema.optimization_step if self.ema else 0,
                # Some optimizers count their steps in plain numbers.
                "optimizer": {name: value for name, value in state.items() if name not in tensors},
            }
            write_json(temporary / "progress.json", position)
        for older in folder.glob("step_*"):
            if older != path:
                shutil.rmtree(older)

    def load(self, path: Path) -> None:
        """Put everything, in place, bit for bit where it was.

        Raises InputError where the checkpoint is another run's (another seed, config, adapter or other pairs), or a
        newer program's.
        """
        position = read_json(path / "progress.json")
        refuse_newer(position.get("schema_version", 0), f"Checkpoint {path}")
        if position["key"] != self.key:
            raise InputError(f"Checkpoint {path} is another training's; remove it or choose another output directory.")
        state = load_file(path / "optimizer.safetensors") | position["optimizer"]
        self.parallel.restore(load_file(path / "weights.safetensors"), state)
        if self.ema is not None:
            average = load_file(path / "ema.safetensors")
            for name, shadow in zip(self.parallel.parameters, self.ema.shadow_params, strict=True):
                place(average[name], shadow)
            self.ema.optimization_step = position["ema_step"]
        sums, late = (torch.tensor(position[name], dtype=torch.float64) for name in ("sums", "late"))
        self.progress = Progress(position["step"], position["skipped"], sums, late)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder``; None where there is none."""
    return max(folder.glob("step_*"), default=None)
