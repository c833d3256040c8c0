"""Shared by all conversions: pick a part of a checkpoint, and load without forgiving anything."""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from videoduet.adapters import WRAPPERS
from videoduet.errors import InputError
from videoduet.loading import check_files, loading

TRAINERS_NAMES = ("state_dict", "module", "model")
"""What Lightning, DeepSpeed and others call the weights in their checkpoints."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


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

    Runs no code from the file. A state dict that a trainer keeps under a name of its own is taken out, and what
    torch.compile and data-parallel training put into names is taken away. Raises InputError where it is none, is cut
    short, or holds more than tensors.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"Checkpoint {path} does not exist; check the path.")
    if path.is_dir():
        raise InputError(_directory(path))
    check_files(path)
    with loading(f"Checkpoint {path} cannot be read", "is it cut short, or no checkpoint?"):
        content = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    for name in TRAINERS_NAMES:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    return _unwrapped(content) if isinstance(content, Mapping) else content


def _directory(path: Path) -> str:
    if any(path.glob("*zero_to_fp32.py")) or any(path.rglob("*_model_states.pt")):
        return (
            f"Checkpoint {path} is DeepSpeed's, whose weights lie in shards; put them together with the script in it "
            "(python zero_to_fp32.py . OUTPUT) and name the file that it writes."
        )
    return f"Checkpoint {path} is a directory; name the file in it that holds the weights."


def _unpickled(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:
            # Files older than PyTorch 1.6 cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # What is not read, since it would run the code of whoever made the file.
        found = _GLOBAL.search(str(error))
        if found is None:
            # What PyTorch says here is to load it all the same.
            raise InputError(
                f"Checkpoint {path} cannot be read (UnpicklingError: it is none of PyTorch's); is it cut short, or no "
                "checkpoint?"
            ) from error
        trainer = next((name for name in ("DeepSpeed", "Lightning") if name.lower() in found[1].lower()), "a trainer")
        raise InputError(
            f"Checkpoint {path} holds more than tensors, a {found[1]}, as {trainer} keeps; save its weights alone "
            "where that is installed and the file is trusted (torch.save of its state_dict, or of its module)."
        ) from error


def _unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors without what wrappings put before all of their names."""
    names = [str(name) for name in state_dict]
    while names and (first := names[0].partition(".")[0]) in WRAPPERS:
        if not all(name.startswith(f"{first}.") for name in names):
            break
        names = [name.removeprefix(f"{first}.") for name in names]
    return dict(zip(names, state_dict.values(), strict=True))
