"""Whether a training's passes are recorded as CUDA graphs."""

from typing import Any

from accelerate import PartialState

from alignment.training.config import AlignConfig
from alignment.training.parallel import Replicated
from alignment.training.step_loss import StepLoss
from generators.fast.step_graphs import StepGraphs
from videoduet.progress import console


def record_passes(loss: StepLoss, parallel: Replicated, config: AlignConfig) -> None:
    """Let ``loss`` record its passes, where ``config`` asks for it and they can be: on one GPU, without an anchor, for
    which the reference would be switched on within them. Elsewhere they stay as they are; on a GPU one line says why.
    """
    state: Any = PartialState()
    if config.speed != "compiled" or state.device.type != "cuda":
        return
    if state.num_processes > 1:
        say(f"Steps run without CUDA graphs, which are for one process, not {state.num_processes}")
    elif loss.live_reference is not None:
        say("Steps run without CUDA graphs, since align.anchor_weight asks for the reference's own predictions")
    else:
        loss.recorder = StepGraphs(loss.from_tensors, list(parallel.parameters.values()), say)


def say(text: str) -> None:
    """One line on the terminal."""
    console.print(f"{text}.", markup=False, highlight=False, soft_wrap=True)
