"""AIGV-Assessor's released checkpoints: names as its stages write them, LoRAs merged, its head in this house's layout.

Stage 1 is InternVL's own layout with a motion encoder and projector. Stage 2 wraps vision tower and language model for
PEFT, puts a LoRA beside their layers, and adds a head, ``mlpscore``, for the one dimension that it was trained in.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from reward_model.families.scores import HEADS
from reward_model.families.stored import Stored
from videoduet.errors import InputError
from videoduet.loading import loading, some
from videoduet.store import read_json

_LORA = re.compile(r"^(?P<layer>.*)\.lora_(?P<side>[AB])\.(?:\w+\.)?weight$")
_HEAD = re.compile(r"^mlpscore\.fc\d+\.(?:weight|bias)$")
_UNUSED = "mlpscore.ln1."
"""In the release's head, and no part of what it computes."""


@dataclass(frozen=True)
class Tuned(Stored):
    """The same by the names that a release without LoRA has. ``called`` says what each is called in its file, ``lora``
    the factors (A, B) that go on top of it, with their ``scale``, and ``head`` where the head's tensors lie.
    """

    called: dict[str, str] = field(default_factory=dict)
    lora: dict[str, dict[str, tuple[str, Path]]] = field(default_factory=dict)
    head: dict[str, Path] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path, alpha: float | None) -> "Tuned":
        """Those of a release; ``alpha`` of its LoRA (None: what its adapter_config.json says, else twice its rank).

        Raises InputError where half of a LoRA is missing, or goes on nothing.
        """
        stored, tuned = Stored.of(directory), cls()
        for name, file in stored.where.items():
            plain = plain_name(name)
            if match := _LORA.match(plain):
                layer, side = f"{match['layer']}.weight", match["side"]
                tuned.lora.setdefault(layer, {})[side] = (name, file)
                if side == "A":
                    rank = stored.shapes[name][0]
                    tuned.scale[layer] = _alpha(directory, alpha, rank) / rank
            elif _HEAD.match(plain):
                tuned.head[name] = file
            elif not plain.startswith(_UNUSED):
                tuned.called[plain] = name
                tuned.where[plain], tuned.shapes[plain] = file, stored.shapes[name]
                tuned.sizes[plain], tuned.dtypes[plain] = stored.sizes[name], stored.dtypes[name]
        tuned._check(directory)
        for layer in tuned.lora:
            # Rounded to half precision, some of what was learned would be gone.
            tuned.sizes[layer], tuned.dtypes[layer] = 4 * torch.Size(tuned.shapes[layer]).numel(), "F32"
        return tuned

    def _check(self, directory: Path) -> None:
        if halves := {layer for layer, sides in self.lora.items() if len(sides) < 2}:
            raise InputError(f"{directory} has half of the LoRA of {some(halves)}; is it cut short?")
        if astray := self.lora.keys() - self.where.keys():
            raise InputError(f"{directory} has a LoRA for {some(astray)}, which it lacks; give the whole checkpoint.")

    def tensor(self, opened: Any, name: str) -> Tensor:
        """The same, with its LoRA merged."""
        base = opened.get_tensor(self.called[name])
        if name not in self.lora:
            return base
        a, b = (_read(*self.lora[name][side]).float() for side in "AB")
        return base.float() + self.scale[name] * (b @ a)

    def heads(self) -> dict[str, Tensor]:
        """The head's tensors as this house calls them: one head, the first."""
        return {name.replace("mlpscore.", f"{HEADS}.0."): _read(name, file) for name, file in self.head.items()}


def plain_name(name: str) -> str:
    """What a tensor was called before PEFT wrapped its model, in PEFT of any age."""
    return name.replace(".base_model.model.", ".", 1).replace(".base_layer.", ".")


def _alpha(directory: Path, alpha: float | None, rank: int) -> float:
    file = directory / "adapter_config.json"
    if alpha is None and file.exists():
        with loading(f"{file} cannot be read", "give --alpha."):
            return float(read_json(file)["lora_alpha"])
    # InternVL's own wrapping, which the release calls, has it so: rank 8 and alpha 16.
    return 2.0 * rank if alpha is None else alpha


def _read(name: str, file: Path) -> Tensor:
    with safe_open(file, "pt") as opened:
        return opened.get_tensor(name)
