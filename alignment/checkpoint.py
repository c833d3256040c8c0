"""The state of a preference training on disk: adapter, optimizer and position. A checkpoint is whole or absent."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from videoduet.errors import InputError
from videoduet.store import atomic_path, read_json, write_json, write_tensors


@dataclass
class Progress:
    """``step`` optimizer steps are done, ``skipped`` of them without an update; ``buckets``: the summary's sums."""

    step: int
    skipped: int
    buckets: Tensor


def save_adapter(policy: PeftModel, path: Path) -> None:
    """Write a PEFT adapter directory, atomically."""
    with atomic_path(path) as temporary:
        # "auto" would look for the base model's vocabulary, on the network if need be.
        policy.save_pretrained(temporary, save_embedding_layers=False)


def latest_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob("step_*"), default=None)


def save_checkpoint(
    folder: Path,
    key: str,
    policy: PeftModel,
    parameters: dict[str, nn.Parameter],
    optimizer: Optimizer,
    progress: Progress,
) -> None:
    """Write ``folder/step_N`` and then remove older ones. ``key`` names the run that it belongs to."""
    path = folder / f"step_{progress.step:08d}"
    with atomic_path(path) as temporary:
        policy.save_pretrained(temporary, save_embedding_layers=False)
        state = {f"{name}.{k}": v for name, p in parameters.items() for k, v in optimizer.state[p].items()}
        write_tensors(temporary / "optimizer.safetensors", state)
        buckets = progress.buckets.tolist()
        position = {"key": key, "step": progress.step, "skipped": progress.skipped, "buckets": buckets}
        write_json(temporary / "progress.json", position)
    for older in folder.glob("step_*"):
        if older != path:
            shutil.rmtree(older)


def load_checkpoint(
    path: Path, key: str, policy: PeftModel, parameters: dict[str, nn.Parameter], optimizer: Optimizer
) -> Progress:
    """Put policy and optimizer, in place, bit for bit where they were.

    Raises InputError where the checkpoint is another run's (another seed, config, adapter or other pairs).
    """
    position = read_json(path / "progress.json")
    if position["key"] != key:
        raise InputError(f"Checkpoint {path} is another training's; remove it or choose another output directory.")
    set_peft_model_state_dict(policy, load_file(path / "adapter_model.safetensors"))
    state = load_file(path / "optimizer.safetensors")
    for name, parameter in parameters.items():
        if f"{name}.step" in state:
            optimizer.state[parameter] = {
                "step": state[f"{name}.step"],
                "exp_avg": state[f"{name}.exp_avg"].to(parameter.device),
                "exp_avg_sq": state[f"{name}.exp_avg_sq"].to(parameter.device),
            }
    return Progress(position["step"], position["skipped"], torch.tensor(position["buckets"], dtype=torch.float64))
