"""Operations, bytes and launches of a call, counted as it runs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.on_gpu_parts.results import Ceilings, Work

FREE = ("empty", "detach", "lift_fresh", "_unsafe_view", "_local_scalar_dense", "is_pinned")
"""Operators, by how their names begin, that launch nothing."""


def size_of(tensors: Any) -> int:
    """Bytes of all tensors in a nest of them."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor))


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a model's weights."""
    return size_of(list(module.parameters()))


class Counter(TorchDispatchMode):
    """Counts the operators that run within it; ``ceilings`` say what each would take by itself."""

    def __init__(self, ceilings: Ceilings):
        super().__init__()
        self.ceilings, self.work = ceilings, Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator, and counts it unless it only looks at memory in another way."""
        output = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if func.is_view or name.startswith(FREE):
            return output
        count = flop_registry.get(func._overloadpacket)
        operations = 0.0 if count is None else float(count(*args, **(kwargs or {}), out_val=output))
        moved = float(size_of([args, kwargs, output]))
        alone = max(operations / self.ceilings.operations, moved / self.ceilings.bytes)
        self.work = self.work.and_also(Work(operations, 0.0, moved, 1.0, alone))
        return output


@torch.no_grad()
def counted(call: Callable[[], Any], ceilings: Ceilings, *read: Any) -> Work:
    """The work of ``call``, which is made once; ``read`` is what no program can do without reading or writing once:
    modules, or tensors.
    """
    with Counter(ceilings) as counter:
        call()
    least = sum(weight_bytes(each) if isinstance(each, nn.Module) else size_of(each) for each in read)
    found = counter.work
    return Work(found.operations, float(least), found.moved, found.launches, found.operators)


def attention_operations(layers: int, width: int, read: float, seen: float) -> float:
    """Operations of ``layers`` causal attentions of heads that are ``width`` together, for ``read`` new tokens that
    see ``seen`` others each: two products of ``read`` x ``seen`` x ``width``.
    """
    return 4.0 * layers * width * read * seen


def products_of(module: nn.Module) -> float:
    """Operations of a token in all linear layers of ``module``."""
    return sum(2.0 * math.prod(layer.weight.shape) for layer in module.modules() if isinstance(layer, nn.Linear))
