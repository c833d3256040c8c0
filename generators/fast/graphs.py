"""A model's forward as a CUDA graph: recorded once for each shape of its inputs, then replayed by one launch instead of
thousands, which keeps the processor free for text, files and the next batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from videoduet.rewriting import Rewrites

WARM_UP = 2
"""Calls before recording, in which kernels are compiled and chosen."""


class Graphs:
    """``forward`` with its recordings. A call returns tensors of its own, which the next call leaves alone."""

    def __init__(self, forward: Callable[..., Any], device: torch.device):
        self.forward, self.device = forward, device
        self.recorded: dict[Any, Recording] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What ``forward`` returns; where gradients are asked for, by itself."""
        if torch.is_grad_enabled():
            return self.forward(*arguments, **named)
        leaves, spec = tree_flatten((arguments, named))
        key = (spec, *((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves))
        if key not in self.recorded:
            self.recorded[key] = Recording(self, leaves, spec)
        return self.recorded[key](leaves)


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
        with torch.cuda.graph(self.graph, pool=graphs.pool):
            self.outputs = graphs.forward(*arguments, **named)

    def __call__(self, leaves: list[Any]) -> Any:
        """The outputs for new inputs of the same shapes."""
        for own, given in zip(self.inputs, leaves, strict=True):
            if isinstance(own, Tensor):
                own.copy_(given)
        self.graph.replay()
        return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self.outputs)


def record(model: nn.Module, device: torch.device | str) -> Rewrites:
    """The change of ``model``, on the GPU ``device``, after which its forward is recorded and replayed as above."""
    rewrites = Rewrites()
    rewrites.forward(model, Graphs(model.forward, torch.device(device)))
    return rewrites
