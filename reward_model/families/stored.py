"""What lies in a directory of weights, looked at without reading any: where each tensor is, how large, how exact."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from reward_model.families.released import Piece
from videoduet.errors import InputError


@dataclass(frozen=True)
class Stored:
    """The tensors in a directory's files: ``where`` each lies, its shape, and its bytes. None of them is read."""

    where: dict[str, Path] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path) -> "Stored":
        """Those of all ``*.safetensors`` in ``directory``. Raises InputError where there are none, or one is there
        twice.
        """
        files, stored = sorted(directory.glob("*.safetensors")), cls()
        if not files:
            raise InputError(
                f"{directory} holds no *.safetensors; give the released directory, or save its weights as safetensors."
            )
        for file in files:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - what is opened is no dict
                    if name in stored.where:
                        raise InputError(f"{name} lies in {stored.where[name].name} and in {file.name}; take one out.")
                    part = opened.get_slice(name)
                    stored.where[name], stored.shapes[name] = file, list(part.get_shape())
                    stored.dtypes[name] = part.get_dtype()
                    stored.sizes[name] = _bytes(part.get_dtype()) * torch.Size(part.get_shape()).numel()
        return stored

    @property
    def dtype(self) -> str:
        """In which precision most bytes are."""
        bytes_of: Counter[str] = Counter()
        for name, size in self.sizes.items():
            bytes_of[self.dtypes[name]] += size
        ((most, _),) = bytes_of.most_common(1)
        return {"BF16": "bfloat16", "F16": "float16"}.get(most, "float32")

    def pieces(self, wanted: Mapping[str, Piece]) -> dict[str, Tensor]:
        """The tensors of ``wanted``; files are mapped anew, so that nothing of them stays in memory."""
        found: dict[str, Tensor] = {}
        for file in sorted({self.where[piece.name] for piece in wanted.values()}):
            with safe_open(file, "pt") as opened:
                for name, piece in wanted.items():
                    if self.where[piece.name] == file:
                        found[name] = piece.of(self.tensor(opened, piece.name))
        return found

    def tensor(self, opened: Any, name: str) -> Tensor:
        """A tensor of an ``opened`` file."""
        return opened.get_tensor(name)


def _bytes(dtype: str) -> int:
    return int("".join(filter(str.isdigit, dtype)) or 8) // 8
