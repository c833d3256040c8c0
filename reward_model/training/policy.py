"""What is trained of a judge, in which precision, and what it is compared with.

On a GPU a frozen base is in bfloat16, as its checkpoint is, and what is trained is float32: a step of 1e-6 on a number
near 0.01 is less than half of the step from it to the next one in bfloat16, so a weight in bfloat16 would never move.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from peft import LoraConfig
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from reward_model.families import family_named, family_of
from reward_model.families.base import Family, has_motion
from reward_model.judging.loading import base_directory, check_family, load_model
from reward_model.prompts import Prompts
from reward_model.training.config import GRPOTraining
from reward_model.wordings import save
from videoduet.config import Precision
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.store import atomic_path

LANGUAGE = r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
MOTION = r".*motion_mlp\.(1|3)"
MASTER = 16
"""Bytes of a trained weight: itself, its gradient and the optimizer's two moments, in float32."""
GIB = 2**30


@dataclass(frozen=True)
class Policy:
    """A judge to be trained.

    Attributes:
        model: The judge, without a LoRA.
        lora: The LoRA to train (None: all weights that need a gradient are trained).
        reference: The judge as it is, where all weights are trained and a KL is asked for; else the model without its
            LoRA is that.
    """

    model: Any
    lora: LoraConfig | None
    reference: Any = None


def precision(path: str | Path, config: GRPOTraining, device: str) -> Precision:
    """In which precision the weights of the judge at ``path`` are held while it is trained.

    Float32 on a CPU, where all weights are trained, and where a checkpoint is in float32: what an earlier training left
    there is in digits that bfloat16 does not have.
    """
    if config.parameters == "all" or not device.startswith("cuda") or _stored(path) == "float32":
        return "float32"
    return "bfloat16"


def _stored(path: str | Path) -> str:
    with_config = base_directory(path)
    kept = AutoConfig.from_pretrained(with_config)
    return str(kept.dtype).removeprefix("torch.")


def lora_config(config: GRPOTraining, path: str | Path, *, motion: bool = False) -> LoraConfig:
    """The LoRA that ``config`` asks for, on the judge at ``path``; with ``motion`` on its motion projector too."""
    parts = [
        LANGUAGE,
        *([] if config.vision == "frozen" else [_family(path).vision_lora]),
        *([MOTION] if motion else []),
    ]
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_rank,
        target_modules=LANGUAGE if len(parts) == 1 else f"({'|'.join(parts)})",
        base_model_name_or_path=str(path),
    )


def load_policy(path: str | Path, config: GRPOTraining, device: str, *, shards: bool = False) -> Policy:
    """The judge at ``path``, to be trained on ``device`` as ``config`` says; ``shards`` says that each process will
    hold a part of it.

    Raises InputError where it cannot be loaded, or all of its weights and their optimizer do not fit.
    """
    check_family(base_directory(path))
    if config.method == "grpo" and not _family(path).by_reward:
        kind = AutoConfig.from_pretrained(base_directory(path)).model_type
        raise InputError(
            f"Judge {path} is a {kind}; GRPO trains Qwen2.5-VL and InternVL alone: give one, or training.method: sft."
        )
    if config.parameters == "all":
        check_memory(path, config, device, shards=shards)
    model = load_model(path, dtype=precision(path, config, device), load_in=config.load_in)
    return policy_of(model, path, config, device)


def policy_of(model: nn.Module, path: str | Path, config: GRPOTraining, device: str) -> Policy:
    """The same of a judge that is loaded already; ``path`` is where it comes from."""
    if config.parameters == "lora":
        return Policy(model, lora_config(config, path, motion=has_motion(model)))
    model.requires_grad_(True)
    if config.vision == "frozen":
        for module in family_of(model).vision_parts(model):
            module.requires_grad_(False)
    reference = None
    if _has_reference(config):
        reference = load_model(path, dtype="bfloat16" if device.startswith("cuda") else "float32")
        reference.requires_grad_(False).eval()
    return Policy(model, None, reference)


def _family(path: str | Path) -> Family:
    return family_named(AutoConfig.from_pretrained(base_directory(path)).model_type)


def _has_reference(config: GRPOTraining) -> bool:
    return config.parameters == "all" and config.method == "grpo" and config.kl_weight > 0


def leave(
    model: Any, weights: dict | None, processor: Any, prompts: Prompts, output_dir: Path, config: GRPOTraining
) -> None:
    """Write what was trained, and what it is asked: ``adapter``, or ``model`` with its processor, in float32.

    ``weights`` are the model's, put together, where they lie in shards.
    """
    with atomic_path(output_dir / ("adapter" if config.parameters == "lora" else "model")) as temporary:
        model.save_pretrained(temporary, state_dict=weights)
        save(prompts, temporary)
        if config.parameters == "all":
            processor.save_pretrained(temporary)


def check_memory(
    path: str | Path, config: GRPOTraining, device: str, *, shards: bool = False, available: int | None = None
) -> None:
    """Raises InputError that says how much is missing, where a process has not the memory to train all weights of the
    judge at ``path``; activations come on top. ``available`` bytes (None: what ``device`` has).
    """
    with init_empty_weights():
        auto: Any = AutoModelForImageTextToText
        model = auto.from_config(AutoConfig.from_pretrained(base_directory(path)))
    vision = sum(weight.numel() for part in family_of(model).vision_parts(model) for weight in part.parameters())
    every = sum(weight.numel() for weight in model.parameters())
    trained = every - (vision if config.vision == "frozen" else 0)
    parts = processes().num_processes if shards else 1
    reference = (2 if device.startswith("cuda") else 4) * every if _has_reference(config) else 0
    needed = (trained * MASTER + (every - trained) * 4 + reference) // parts
    available = _memory(device) if available is None else available
    if needed > available:
        way = "more processes" if shards else "shards (configs/accelerate/judge_fsdp2.yaml)"
        raise InputError(
            f"Training all weights of {path} takes {needed / GIB:.1f} GiB in each process, before activations, and "
            f"{device} has {available / GIB:.1f} GiB, so {(needed - available) / GIB:.1f} GiB are missing; train in "
            f"{way}, or give training.parameters: lora."
        )


def _memory(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
