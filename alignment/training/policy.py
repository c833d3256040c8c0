"""The policy that is trained, and its reference: LoRAs on one denoiser, or all of its weights and a frozen copy."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from diffusers import ModelMixin
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from alignment.training.config import AlignConfig
from generators.base import Generator
from generators.loading import load_adapter
from videoduet.adapters import put_on
from videoduet.errors import InputError
from videoduet.seeding import seed_for
from videoduet.store import atomic_path

POLICY, REFERENCE = "default", "reference"
"""What PEFT calls the two adapters."""


def make_policy(
    generator: Generator, config: AlignConfig, seed: int, adapter: Path | None, base: str | None, revision: str | None
) -> nn.Module:
    """The denoiser with a trainable LoRA: a new one, which changes nothing yet, or the one in ``adapter``; or, where
    all weights are trained, the denoiser itself.

    Raises InputError for an adapter that does not fit.
    """
    if config.parameters == "all":
        if adapter is not None:
            raise InputError(
                f"parameters is 'all', which goes on from no adapter; merge {adapter} into the generator first."
            )
        if not isinstance(generator.denoiser, ModelMixin):
            raise InputError("parameters is 'all', but this generator has more than one denoiser; give 'lora'.")
        if generator.denoiser.dtype != torch.float32:
            raise InputError(
                "parameters is 'all', which trains float32 weights; give dtype 'float32' (mixed_precision 'bf16' "
                "computes in half all the same)."
            )
        return generator.denoiser.requires_grad_(True).eval()
    if adapter is None:
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=0.0, target_modules=generator.lora_targets
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "lora"))
            policy = get_peft_model(generator.denoiser, lora)
    else:
        policy = load_adapter(generator.denoiser, adapter, is_trainable=True)
        rank = policy.peft_config[POLICY].r
        if rank != config.lora_rank:
            raise InputError(f"Adapter {adapter} has rank {rank}, not lora_rank {config.lora_rank}; make them equal.")
    if base is not None:
        policy.peft_config[POLICY].base_model_name_or_path = base
        policy.peft_config[POLICY].revision = revision
    # No dropout in policy or reference: it would be noise in a small difference of errors. Gradients flow in eval mode
    # too.
    return policy.eval()


class LiveReference:
    """The reference's own predictions, which only the anchor needs; cached errors do for the rest.

    A LoRA that starts at zero has the plain base as its reference, one that is continued a second, frozen adapter, and
    a denoiser all of whose weights are trained a frozen copy.
    """

    def __init__(self, generator: Generator, config: AlignConfig, adapter: Path | None):
        self.generator, self.kind, self.copy = generator, "base", None
        if config.parameters == "all":
            self.kind, self.copy = "copy", copy.deepcopy(generator.denoiser).requires_grad_(False)
        elif adapter is not None and config.reference == "previous_round":
            self.kind = "adapter"
            put_on(generator.denoiser, adapter, "generator", name=REFERENCE)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within it ``generator.predict`` is the reference's, and no gradient is kept."""
        policy = self.generator.denoiser
        with torch.no_grad(), policy.disable_adapter() if self.kind == "base" else nullcontext():
            if self.kind == "copy":
                self.generator.denoiser = self.copy
            elif self.kind == "adapter":
                policy.set_adapter(REFERENCE)
            try:
                yield
            finally:
                self.generator.denoiser = policy
                if self.kind == "adapter":
                    policy.set_adapter(POLICY)


def autocasts(policy: nn.Module, config: AlignConfig) -> bool:
    """Whether a pass of ``policy`` runs under autocast: where ``config`` asks for 'bf16' and the weights are not in it.

    Under a LoRA, weights in bfloat16 compute in it by themselves, as when the model samples; autocast would widen every
    norm's output, and a LoRA's input twice. The LoRA then computes by :mod:`generators.fast.half_lora`.
    """
    bases = {layer.get_base_layer().weight.dtype for layer in policy.modules() if isinstance(layer, LoraLayer)}
    in_half = torch.bfloat16 in bases and torch.float16 not in bases
    return config.mixed_precision == "bf16" and not in_half


def without_adapter(policy: nn.Module, config: AlignConfig) -> AbstractContextManager:
    """Within it the policy is its reference, if only no step has been taken yet or that reference is the base."""
    return policy.disable_adapter() if config.reference == "base" else nullcontext()


def save_policy(policy: nn.Module, path: Path) -> None:
    """Write a PEFT adapter directory, or a diffusers model's, atomically."""
    # "auto" would look for the base model's vocabulary, on the network if need be.
    named = {"save_embedding_layers": False, "selected_adapters": [POLICY]} if isinstance(policy, PeftModel) else {}
    with atomic_path(path) as temporary:
        policy.save_pretrained(temporary, **named)
