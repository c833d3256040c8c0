"""Shared by all conversions: pick a part of a checkpoint, and load without forgiving anything."""

from collections.abc import Mapping

from torch import Tensor, nn

from videoduet.errors import InputError


def part(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix``, without it; a state dict that nowhere has it is that part already."""
    inside = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    return inside or dict(state_dict)


def load_strictly(model: nn.Module, state_dict: Mapping[str, Tensor], what: str) -> None:
    """Put the very tensors of ``state_dict`` into ``model``. Raises InputError naming what does not fit."""
    expected = model.state_dict()
    wrong = {name for name in expected.keys() & state_dict.keys() if expected[name].shape != state_dict[name].shape}
    for problem, names in (
        ("lacks", expected.keys() - state_dict.keys()),
        ("has unknown", state_dict.keys() - expected.keys()),
        ("has of the wrong shape", wrong),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise InputError(f"The {what} {problem} {shown}; is this checkpoint of another family, or cut short?")
    model.load_state_dict(state_dict, assign=True)
