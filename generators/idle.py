"""Text encoders that wait in the machine's memory: they read for seconds, and the denoiser draws for hours.

Wan's takes 11.4 GB in half precision, a quarter of a card of 48 GB. There and back it takes a second or two, once for
each shard of videos; what is drawn is the same.
"""

from collections.abc import Mapping, Sequence

import torch
from accelerate import cpu_offload_with_hook
from torch import nn

from generators.config import FULL

ENCODERS = "text_encoder"
"""How the names of a pipeline's text encoders begin."""


def memory_of(device: torch.device) -> float:
    """Bytes of the GPU ``device``; without end for others, where nothing is gained."""
    return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else float("inf")


def waiting(models: Mapping[str, nn.Module], device: torch.device) -> list[str]:
    """The names of the text encoders among ``models``, where all together fill too much of ``device``; else none."""
    held = sum(weight.numel() * weight.element_size() for model in models.values() for weight in model.parameters())
    return [name for name in models if name.startswith(ENCODERS)] if held > FULL * memory_of(device) else []


class Idle:
    """``encoders`` that lie in the machine's memory, come to ``device`` when they are called, and stay there until
    :meth:`rest`.
    """

    def __init__(self, encoders: Sequence[nn.Module], device: torch.device):
        self.hooks = [cpu_offload_with_hook(encoder, device)[1] for encoder in encoders]

    def rest(self) -> None:
        """Back into the machine's memory."""
        for hook in self.hooks:
            hook.offload()

    def undo(self) -> None:
        """Let them lie where they are moved to."""
        for hook in self.hooks:
            hook.remove()
