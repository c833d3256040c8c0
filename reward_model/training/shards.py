"""A judge's weights in shards (FSDP2) while it trains, each block whole only when it is needed.

Done here, not by accelerate, which shards on GPUs alone and takes a LoRA apart with its base: so what two processes do
on CPUs is what eight do on GPUs. A LoRA is small and stays whole on every process, and so does a frozen vision tower,
which each process goes through as often as it has new videos. Where all weights are trained, gradients and the
optimizer's state are sharded like them.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env, reduce
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import Trainer

from reward_model.families import family_of
from videoduet.errors import InputError
from videoduet.loading import some
from videoduet.processes import processes

ASKED = "ACCELERATE_USE_FSDP"
OFFLOAD = ("FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING")
"""What a launcher may ask for and would not get."""


@contextmanager
def launched_sharded() -> Generator[bool]:
    """Whether accelerate's launcher asks for shards. Within it the libraries know nothing of that.

    Raises InputError for a way of sharding that is not this one.
    """
    asked = parse_flag_from_env(ASKED)
    if asked and os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError("This training shards by FSDP2; give fsdp_version: 2 in the accelerate config.")
    for name in OFFLOAD:
        if asked and parse_flag_from_env(name):
            raise InputError(f"The accelerate config asks for {name.lower()}, which this training does not know.")
    before = os.environ.pop(ASKED, None)
    try:
        yield asked and processes().num_processes > 1
    finally:
        if before is not None:
            os.environ[ASKED] = before


def shard(model: nn.Module) -> None:
    """Shard ``model`` in place: each block of its towers by itself, then the rest. No LoRA, and no frozen vision tower.

    On a GPU float32 weights are put together in bfloat16, as autocast would have them, and gradients summed in float32.
    """
    first = next(model.parameters())
    mesh = init_device_mesh(first.device.type, (processes().num_processes,))
    ignored = {parameter for name, parameter in model.named_parameters() if "lora_" in name}
    for tower in family_of(model).vision_parts(model):
        if not any(parameter.requires_grad for parameter in tower.parameters()):
            ignored |= set(tower.parameters())
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {
        "mesh": mesh, "ignored_params": ignored, "mp_policy": half if first.is_cuda else MixedPrecisionPolicy(),
    }  # fmt: skip
    again = parse_flag_from_env("FSDP_RESHARD_AFTER_FORWARD", default=True)
    for block in _blocks(model):
        if not ignored.issuperset(block.parameters()):
            fully_shard(block, reshard_after_forward=again, **options)
    fully_shard(model, reshard_after_forward=False, **options)


def _blocks(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.ModuleList):
        return list(module)
    return [block for child in module.children() for block in _blocks(child)]


@contextmanager
def whole(model: nn.Module) -> Generator[None]:
    """Within it all weights of ``model`` are whole: processes may go through it as often as each needs to."""
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    again = parse_flag_from_env("FSDP_RESHARD_AFTER_FORWARD", default=True)
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    yield
    for module in modules:
        module.set_reshard_after_forward(again and module is not modules[0], recurse=False)
        module.reshard()


def whole_weights(model: Any) -> dict[str, Tensor]:
    """All weights of ``model``, whole and on the CPU, in the main process, none in others; every process must ask."""
    weights: Any = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    # A weight that stands in two places is kept in the first of them, as it is elsewhere.
    first = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    return {name: weight for name, weight in weights.items() if name in first}


def plainly_named(model: Any) -> None:
    """Give a model that was sharded its own class back, whose name is written down where it is saved."""
    base: Any = _base(model)
    base.__class__ = next(kind for kind in type(base).__mro__ if not issubclass(kind, FSDPModule))


class ShardingTrainer(Trainer):
    """A trainer that shards its model where ``shards`` is set; its checkpoints hold a part for each process."""

    shards = False

    def stop_sharing(self) -> None:
        """Give the model its own forwards back, once it is trained, where it was given others."""

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The optimizer, over shards."""
        if self.shards and not any(isinstance(p, DTensor) for p in _base(self.model).parameters()):
            self.share_out()
        return super().create_optimizer(*args, **kwargs)

    def share_out(self) -> None:
        """Shard the model; what accelerate does with a model stays its precision alone."""
        shard(_base(self.model))
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = lambda model, *_, **__: prepare(
            model, device_placement=False, evaluation_mode=True
        )

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of a pass; after a step's last one the gradients of what is whole are the mean over processes."""
        loss = super().training_step(*args, **kwargs)
        if self.shards and self.accelerator.sync_gradients:
            for parameter in _trained(self.model):
                if parameter.grad is not None and not isinstance(parameter, DTensor):
                    mean: Any = reduce(parameter.grad, "mean")
                    parameter.grad.copy_(mean)
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model, whole, under the names that it has itself: a checkpoint is read by these alone."""
        with _own_names(self.model):
            if not self.shards or not any(isinstance(p, DTensor) for p in _trained(self.model)):
                super().save_model(output_dir, _internal_call)
                return
            weights = whole_weights(self.model)
            if self.args.should_save:
                self._save(output_dir, state_dict=weights)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not isinstance(self.model, PeftModel):
            # The library would take none of them, say so in a warning, and go on from the start's weights.
            whole: Any = self.model
            known = whole.state_dict().keys()
            if other := {name for name in _stored(resume_from_checkpoint) if name not in known}:
                raise InputError(
                    f"Checkpoint {resume_from_checkpoint} holds {some(other)}, which this judge has under another name "
                    "or not at all; take the checkpoints away, and it is trained from its start."
                )
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.shards:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # The main process may not have come to it yet.
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        optimizer, scheduler = self._stateful()
        state = {"optimizer": _parts(optimizer.state_dict()), "scheduler": scheduler.state_dict()}
        torch.save(state, self._part(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.shards or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        part = self._part(checkpoint)
        if not part.exists():
            raise InputError(f"Checkpoint {checkpoint} was written by other processes; go on with as many as began it.")
        state = torch.load(part, map_location="cpu", weights_only=True)
        optimizer, scheduler = self._stateful()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        optimizer.load_state_dict(_as_shards(state["optimizer"], parameters))
        scheduler.load_state_dict(state["scheduler"])

    def _stateful(self) -> tuple[Any, Any]:
        return self.optimizer, self.lr_scheduler

    def _part(self, directory: str) -> Path:
        return Path(directory) / f"optimizer_{self.args.process_index}_of_{self.args.world_size}.pt"


@contextmanager
def _own_names(model: Any) -> Generator[None]:
    """Within it transformers writes a whole model's weights under its own names, not under those of the files that it
    was loaded from.
    """
    if isinstance(model, PeftModel):
        yield
        return
    before = vars(model).get("_weight_conversions")
    model._weight_conversions = []
    try:
        yield
    finally:
        model._weight_conversions = before


def _stored(checkpoint: str) -> set[str]:
    names: set[str] = set()
    for file in Path(checkpoint).glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names |= set(opened.keys())
    return names


def _base(model: Any) -> nn.Module:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _trained(model: Any) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _parts(state: Any) -> Any:
    """An optimizer's state with this process's part of every sharded tensor in its place."""
    if isinstance(state, DTensor):
        return state.to_local()
    if isinstance(state, Mapping):
        return {key: _parts(value) for key, value in state.items()}
    return state


def _as_shards(state: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    """The reverse of :func:`_parts`, by the parameters that the optimizer has, in their order."""
    order = [index for group in state["param_groups"] for index in group["params"]]
    return {
        **state,
        "state": {
            index: _placed(state["state"][index], parameters[index]) for index in order if index in state["state"]
        },
    }


def _placed(values: Mapping[str, Tensor], parameter: nn.Parameter) -> dict[str, Tensor]:
    if not isinstance(parameter, DTensor):
        return dict(values)
    where = {"device_mesh": parameter.device_mesh, "placements": parameter.placements, "run_check": False}
    shape = {"shape": parameter.shape, "stride": parameter.stride()}
    return {
        # AdamW counts its steps in a number of its own.
        key: value if key == "step" else DTensor.from_local(value.to(parameter.device), **where, **shape)
        for key, value in values.items()
    }
