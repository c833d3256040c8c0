"""What a GPU can do here, asked before work relies on it, and how it is left after a recording that failed."""

from functools import cache
from importlib import import_module
from typing import Any

import torch

from videoduet.errors import in_words
from videoduet.progress import console


@cache
def kernels_run(device: torch.device) -> bool:
    """Whether kernels written in Triton can be built and run on ``device``; what stands in the way is said once.

    Triton may be missing (Windows), or the C compiler or Python's headers that it builds launchers with. Ask before a
    CUDA graph is recorded: the answer is kept, but is found by a launch that is waited for.
    """
    try:
        probe: Any = import_module("videoduet.probe_kernel")
        place = torch.zeros(1, dtype=torch.int32, device=device)
        probe.answer[(1,)](place)
        return place.item() == 1
    # Whatever a compiler raises.
    except Exception as error:
        console.print(
            f"Triton's kernels cannot be used here; PyTorch's take their place, slower, and right: {in_words(error)}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        return False


def end_recording(device: torch.device) -> None:
    """Let the GPU ``device`` draw random numbers again: a recording that failed leaves them waiting for its end."""
    generator = torch.cuda.default_generators[device.index or 0]
    generator.graphsafe_set_state(generator.clone_state())
