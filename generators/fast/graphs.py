"""A model's forward as a CUDA graph: recorded once for each shape of its inputs, then replayed by one launch instead of
thousands, which keeps the processor free for text, files and the next batch.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from videoduet.gpu import end_recording
from videoduet.progress import console
from videoduet.rewriting import Rewrites

WARM_UP = 2
"""Calls before recording, in which kernels are compiled and chosen."""


class Graphs:
    """``forward`` with its recordings. A call returns tensors of its own, which the next call leaves alone."""

    def __init__(self, forward: Callable[..., Any], device: torch.device):
        self.forward, self.device = forward, device
        self.recorded: dict[Any, Recording] = {}
        self.gave_up = False
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What ``forward`` returns: by itself where gradients are asked for, or where it cannot be recorded."""
        if torch.is_grad_enabled() or self.gave_up:
            return self.forward(*arguments, **named)
        leaves, spec = tree_flatten((arguments, named))
        key = (spec, *((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves))
        if key not in self.recorded and not self._record(key, leaves, spec):
            return self.forward(*arguments, **named)
        return self.recorded[key](leaves)

    def _record(self, key: Any, leaves: list[Any], spec: TreeSpec) -> bool:
        """Whether the forward could be recorded for such inputs; what stood in the way is said."""
        began = time.perf_counter()
        try:
            self.recorded[key] = Recording(self, leaves, spec)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                # What was recorded before holds the memory: the same batch may fit without.
                self.recorded.clear()
            self.gave_up = True
            end_recording(self.device)
            reason = str(error).strip().partition("\n")[0]
            _say(f"The denoiser's kernels are launched one by one, since they cannot be recorded: {reason}")
            return False
        torch.cuda.synchronize(self.device)
        _say(f"Compiled and recorded the denoiser in {time.perf_counter() - began:.1f} s.")
        return True


class Recording:
    """One graph with the tensors that it reads and writes."""

    def __init__(self, graphs: Graphs, leaves: list[Any], spec: TreeSpec):
        self.inputs = [leaf.to(graphs.device, copy=True) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments, named = tree_unflatten(self.inputs, spec)
        stream = torch.cuda.Stream(graphs.device)
        stream.wait_stream(torch.cuda.current_stream(graphs.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                graphs.forward(*arguments, **named)
        torch.cuda.current_stream(graphs.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # What other threads do meanwhile, such as writing the last videos, is no part of it.
        with torch.cuda.graph(self.graph, pool=graphs.pool, capture_error_mode="thread_local"):
            self.outputs = graphs.forward(*arguments, **named)

    def __call__(self, leaves: list[Any]) -> Any:
        """The outputs for new inputs of the same shapes."""
        for own, given in zip(self.inputs, leaves, strict=True):
            if isinstance(own, Tensor):
                own.copy_(given)
        self.graph.replay()
        return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self.outputs)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def record(model: nn.Module, device: torch.device | str) -> Rewrites:
    """The change of ``model``, on the GPU ``device``, after which its forward is recorded and replayed as above."""
    rewrites = Rewrites()
    rewrites.forward(model, Graphs(model.forward, torch.device(device)))
    return rewrites
