"""Tensors and modules in shards (FSDP2): taken apart, and put together again."""

from collections.abc import Mapping

from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(module: nn.Module, *, reshard: bool) -> None:
    """Shard ``module`` in place by FSDP2: each block of its outermost lists by itself, then the rest. No LoRA.

    ``reshard`` takes a block apart again as soon as it has been passed forward.
    """
    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (PartialState().num_processes,))
    lora = {parameter for name, parameter in module.named_parameters() if "lora_" in name}
    for block in _blocks(module):
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard, ignored_params=lora)
    fully_shard(module, mesh=mesh, reshard_after_forward=reshard, ignored_params=lora)


def whole(tensor: Tensor) -> Tensor:
    """``tensor``, put together from its shards if it has any; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def on_main(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors``, whole and on the CPU, in the main process, nothing in the others; every process must ask."""
    is_main = PartialState().is_main_process
    kept = {}
    for name, tensor in tensors.items():
        tensor = whole(tensor.detach())
        if is_main:
            kept[name] = tensor.cpu()
    return kept


def place(value: Tensor, into: Tensor) -> None:
    """Copy ``value``, whole, into a tensor that may be sharded."""
    into.copy_(sharded_like(value, into))


def sharded_like(value: Tensor, other: Tensor) -> Tensor:
    """``value``, whole, on the device of ``other`` and sharded as it is."""
    value = value.to(other.device)
    return distribute_tensor(value, other.device_mesh, other.placements) if isinstance(other, DTensor) else value


def _blocks(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.ModuleList):
        return list(module)
    return [block for child in module.children() for block in _blocks(child)]
