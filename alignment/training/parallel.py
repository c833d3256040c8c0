"""How the processes of a training hold its state: each all of it, or a shard.

``accelerate launch`` tells by environment variables which it is to be; recipes are in ``configs/accelerate``. In each
of them a process works on its part of a step's draws, and what comes out is the same.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, parse_flag_from_env, reduce
from diffusers import ModelMixin
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from alignment.training.config import AlignConfig
from alignment.training.metrics import means
from alignment.training.optimizer import make_optimizer
from alignment.training.sharding import on_main, place, shard, sharded_like, whole
from videoduet.errors import InputError

SUMMED_AT_ONCE = 2**25
"""Numbers in one sum over processes: few sums, and little memory."""

OFFLOAD = (
    "FSDP_OFFLOAD_PARAMS",
    "FSDP_ACTIVATION_CHECKPOINTING",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
)
"""What a launcher may ask for and would not get."""


class Replicated:
    """Every process holds all weights, gradients and optimizer state; gradients are summed after a step's passes (DDP).

    Attributes:
        parameters: What is trained, by name.
        optimizer: Over these.
        scale: What a process multiplies its loss by, so that gradients add up to the whole batch's.
        in_step: Whether all processes must go through the model equally often.
    """

    scale = 1
    in_step = False

    def __init__(self, policy: nn.Module, config: AlignConfig):
        self.policy, self.max_grad_norm = policy, config.max_grad_norm
        self.parameters = {name: p for name, p in policy.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters.values(), config)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of ``loss``; ``last`` says that no more of this step follow."""
        (loss * self.scale).backward()
        if last:
            self.sum_gradients()

    def sum_gradients(self) -> None:
        """Sum over processes what is not sharded, some parameters at a time. A process without a part adds zeros."""
        if PartialState().num_processes == 1:
            return
        group: list[Tensor] = []
        for parameter in self.parameters.values():
            if isinstance(parameter, DTensor):
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            group.append(parameter.grad)
            if sum(gradient.numel() for gradient in group) >= SUMMED_AT_ONCE:
                _sum_over_processes(group)
                group = []
        _sum_over_processes(group)

    def step(self, sums: Tensor) -> tuple[Tensor, float]:
        """:meth:`update`, which takes no step either where a mean of ``sums`` (those of
        :func:`alignment.training.metrics.draw_sums`, over all processes) is not finite.

        Returns ``sums`` in float64 on the CPU, and the gradient's norm before.
        """
        if self.in_step or not self.optimizer.defaults.get("fused"):
            sums = sums.double().cpu()
            return sums, self.update(all(map(math.isfinite, means(sums).values())))
        # The kernel itself leaves everything as it is, so that nobody waits for the gradient before the step.
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.max_grad_norm)
        optimizer: Any = self.optimizer
        optimizer.found_inf = (~(sums.sum(0).isfinite().all() & norm.isfinite())).float()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        *numbers, found = torch.cat([sums.double().flatten(), norm.double().reshape(1)]).tolist()
        return torch.tensor(numbers, dtype=torch.float64).view(sums.shape), found

    def update(self, healthy: bool) -> float:
        """Clip the gradient, take the optimizer's step unless something is not finite; returns the norm before."""
        norm = whole(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.max_grad_norm)).item()
        if healthy and math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def optimizer_state(self) -> dict[str, Tensor | float]:
        """All of the optimizer's state, whole, on the CPU; every process must ask, the main one gets it."""
        items = {f"{n}.{k}": v for n, p in self.parameters.items() for k, v in self.optimizer.state[p].items()}
        numbers = {name: value for name, value in items.items() if not isinstance(value, Tensor)}
        # Cloned: an optimizer in 8 bits shares one table between all parameters, which safetensors refuses.
        tensors = on_main({name: value for name, value in items.items() if name not in numbers})
        return {name: value.clone() for name, value in tensors.items()} | numbers

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor | float]) -> None:
        """Put weights and optimizer state, as a checkpoint has them, bit for bit where they were.

        Raises InputError where it was written under another of these ways.
        """
        if any(name.rpartition(".")[0] not in self.parameters for name in optimizer_state):
            raise InputError("This checkpoint was written by ZeRO-2; go on by zero2.yaml, as it was begun.")
        for name, parameter in self.parameters.items():
            place(weights[name], parameter)
        for name, value in optimizer_state.items():
            parameter, _, key = name.rpartition(".")
            owner = self.parameters[parameter]
            if isinstance(value, Tensor):
                # AdamW counts its steps on the CPU, the fused one where it takes them.
                fused = self.optimizer.defaults.get("fused")
                value = sharded_like(value, owner) if key != "step" else value.to(owner.device if fused else "cpu")
            self.optimizer.state[owner][key] = value

    def whole_policy(self) -> nn.Module:
        """The policy as it is saved; every process must ask, the main one gets it."""
        return self.policy


class FullyShardedDataParallel2(Replicated):
    """FSDP2: weights lie in shards and come together block by block, as they are needed.

    A LoRA is small and stays whole on every process; only its frozen base is sharded. Where all weights are trained,
    their gradients and the optimizer's state are sharded like them.
    """

    in_step = True

    def __init__(self, policy: nn.Module, config: AlignConfig, reference: nn.Module | None):
        _refuse_8bit(config)
        shard(policy, reshard=parse_flag_from_env("FSDP_RESHARD_AFTER_FORWARD", default=True))
        if reference is not None:
            # No backward pass would ever take its weights apart again.
            shard(reference, reshard=True)
        super().__init__(policy, config)
        if config.parameters == "all":
            self.scale = PartialState().num_processes  # FSDP takes the mean over processes

    def restore(self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor | float]) -> None:
        """As :meth:`Replicated.restore`, into the shards."""
        for module in self.policy.modules():
            if isinstance(module, FSDPModule):
                # Weights put together for an earlier forward pass would not be the restored ones.
                module.reshard()
        super().restore(weights, optimizer_state)

    def whole_policy(self) -> nn.Module:
        """The policy as it is saved, put together from its shards; every process must ask, the main one gets it."""
        if not isinstance(next(iter(self.parameters.values())), DTensor):
            return self.policy
        weights = get_model_state_dict(self.policy, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if not PartialState().is_main_process:
            return self.policy
        plain = next(kind for kind in type(self.policy).__mro__ if not issubclass(kind, FSDPModule))
        model = plain.from_config(self.policy.config)
        model.load_state_dict(weights, assign=True)
        return model


class ZeroRedundancy2(Replicated):
    """DeepSpeed's ZeRO stage 2: gradients and optimizer state lie in shards, weights are whole on every process."""

    in_step = True

    def __init__(self, policy: nn.Module, config: AlignConfig):
        _refuse_8bit(config)
        import deepspeed

        super().__init__(policy, config)
        bucket = min(SUMMED_AT_ONCE, sum(parameter.numel() for parameter in self.parameters.values()))
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": 2, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "gradient_clipping": config.max_grad_norm,
        }
        self.engine, *_ = deepspeed.initialize(model=policy, optimizer=self.optimizer, config=settings)
        self.scale = PartialState().num_processes  # DeepSpeed takes the mean over processes

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """As :meth:`Replicated.backward`; DeepSpeed sums over processes, into its shards."""
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed skips a step whose gradient is not finite, so that of a loss that is not may not be either.
        scale = self.scale if loss.isfinite() else float("nan")
        self.engine.backward(loss * scale)

    def update(self, healthy: bool) -> float:
        """As :meth:`Replicated.update`; DeepSpeed clips, and skips a step whose gradient is not finite."""
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def optimizer_state(self) -> dict[str, Tensor | float]:
        """As DeepSpeed has it: one long row of numbers for all parameters."""
        (flat,) = self.optimizer.param_groups[0]["params"]
        state = self.optimizer.state[flat]
        return {f"zero.{key}": value.cpu() if key == "step" else _row(value) for key, value in state.items()}

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor | float]) -> None:
        """As :meth:`Replicated.restore`. Raises InputError for a checkpoint of another number of processes."""
        super().restore(weights, {})
        # The optimizer's own copy of its part of the weights.
        self.engine.optimizer.refresh_fp32_params()
        (flat,), state = self.optimizer.param_groups[0]["params"], PartialState()
        for name, value in optimizer_state.items():
            key = name.removeprefix("zero.")
            if key != "step":
                if name == key or value.numel() != flat.numel() * state.num_processes:
                    raise InputError(
                        f"This checkpoint was not written by ZeRO-2 with {state.num_processes} processes; go on as it "
                        "was begun."
                    )
                value = value.chunk(state.num_processes)[state.process_index].to(flat.device)
            self.optimizer.state[flat][key] = value


def parallelize(policy: nn.Module, config: AlignConfig, reference: nn.Module | None) -> Replicated:
    """The state of a training of ``policy``, on its device and as yet whole, held as accelerate's launcher says.

    ``reference`` is a frozen copy of it, or None. Raises InputError for a way that is not one of these.
    """
    fsdp, deepspeed = (parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED"))
    if fsdp and os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError("This training shards by FSDP2; give fsdp_version: 2 in the accelerate config.")
    for name in OFFLOAD:
        if os.environ.get(name, "none").lower() not in ("none", "false"):
            raise InputError(f"The accelerate config asks for {name.lower()}, which this training does not know.")
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if deepspeed and stage != "2":
        raise InputError(f"This training knows DeepSpeed's ZeRO stage 2, not {stage}; for more, shard by FSDP2.")
    if PartialState().num_processes == 1 or not (fsdp or deepspeed):
        return Replicated(policy, config)
    denoiser = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    if not isinstance(denoiser, ModelMixin):
        raise InputError(
            "This generator has several denoisers, and each timestep needs one of them, so processes could not go "
            "through the same one together; launch by eight_gpus.yaml."
        )
    return FullyShardedDataParallel2(policy, config, reference) if fsdp else ZeroRedundancy2(policy, config)


def _row(part: Tensor) -> Tensor:
    """The parts (n,) that processes hold, one after the other, on the CPU; gathered piece by piece."""
    processes = PartialState().num_processes
    pieces = [gather(piece).cpu().chunk(processes) for piece in part.detach().split(SUMMED_AT_ONCE)]
    return torch.cat([piece[process] for process in range(processes) for piece in pieces])


def _sum_over_processes(gradients: list[Tensor]) -> None:
    if gradients:
        flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _refuse_8bit(config: AlignConfig) -> None:
    if config.optimizer == "adamw_8bit":
        raise InputError("optimizer is 'adamw_8bit', whose state cannot be sharded; give 'adamw'.")
