"""A LoRA beside weights in half precision, where merging would round most of it away.

Neighbours in bfloat16 are 1/256 apart, and what a LoRA adds to a weight is mostly less: merged, it would be gone. So
weights stay as they are, and what was learned is added to what they give. The model is a plain one: another LoRA can be
put on it and trained, and switched off without this one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn


class BesideLinear(nn.Linear):
    """A linear layer, with what LoRAs learned beside its weights: W x + b + B A x, the latter in float32."""

    down: Tensor
    up: Tensor

    def __init__(self, layer: nn.Linear, down: Tensor, up: Tensor):
        """``layer`` gives its weights; ``down`` (r, in) is A and ``up`` (out, r) is B, scale included."""
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        if isinstance(layer, BesideLinear):
            down, up = torch.cat([layer.down, down]), torch.cat([layer.up, up], dim=1)
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output, in the precision of its weights."""
        given = super().forward(input)
        return given + F.linear(F.linear(input.to(self.down.dtype), self.down), self.up).to(given.dtype)


def beside(model: PeftModel) -> nn.Module:
    """The base of ``model``, with what its active LoRA learned beside the weights.

    Raises ValueError where it changes more than linear layers.
    """
    config: Any = model.active_peft_config
    if whole := config.modules_to_save:
        raise ValueError(f"it holds {', '.join(whole)} whole")
    base: Any = model.get_base_model()
    for path, layer in [item for item in base.named_modules() if isinstance(item[1], BaseTunerLayer)]:
        (name,) = layer.active_adapters
        below = layer.get_base_layer()
        plain = type(layer) is Linear and isinstance(below, nn.Linear)
        if not plain or layer.use_dora.get(name) or layer.lora_bias.get(name):
            raise ValueError(f"it changes {path} otherwise than a LoRA of a linear layer does")
        parent, _, child = path.rpartition(".")
        setattr(base.get_submodule(parent), child, _with(layer, below, name))
    # PEFT would take the model for one that has its LoRAs still.
    del base.peft_config
    return base


def _with(layer: LoraLayer, below: nn.Linear, name: str) -> BesideLinear:
    down, up = (_weight(matrices[name]) for matrices in (layer.lora_A, layer.lora_B))
    result = BesideLinear(below, down, up * layer.scaling[name])
    return result.requires_grad_(False).train(below.training)


def _weight(matrix: Any) -> Tensor:
    return matrix.weight.detach().float()
