"""Shared by all conversions: pick a part of a checkpoint, and load without forgiving anything."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from videoduet.errors import InputError


def part(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix``, without it; a state dict that nowhere has it is that part already.

    Raises InputError for what is no state dict.
    """
    if not isinstance(state_dict, Mapping):
        raise InputError(
            "This checkpoint is no state dict but a list, as LoRA files are; is it the one that was meant?"
        )
    inside = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    return inside or dict(state_dict)


def check(model: nn.Module, shapes: Mapping[str, torch.Size], what: str) -> None:
    """Raises InputError naming what ``shapes`` lack, have too much or have otherwise than ``model``."""
    expected = {name: value.shape for name, value in model.state_dict().items()}
    wrong = {name for name in expected.keys() & shapes.keys() if expected[name] != shapes[name]}
    for problem, names in (
        ("lacks", expected.keys() - shapes.keys()),
        ("has unknown", shapes.keys() - expected.keys()),
        ("has of the wrong shape", wrong),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise InputError(f"The {what} {problem} {shown}; is this checkpoint of another family, or cut short?")


def load_strictly(model: nn.Module, state_dict: Mapping[str, Tensor], what: str) -> None:
    """Put the very tensors of ``state_dict`` into ``model``. Raises InputError naming what does not fit."""
    check(model, {name: value.shape for name, value in state_dict.items()}, what)
    model.load_state_dict(state_dict, assign=True)


def read_checkpoint(path: str | Path) -> Any:
    """What a ``.safetensors`` file or a pickle of tensors holds, mapped into memory rather than read.

    Runs no code from the file. Raises InputError where it is none, is cut short, or holds more than tensors.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"Checkpoint {path} does not exist; check the path.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:
            # Files older than PyTorch 1.6 cannot be mapped.
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"Checkpoint {path} cannot be read ({reason}); is it cut short, or no checkpoint?") from error
    return content["state_dict"] if isinstance(content, dict) and "state_dict" in content else content
