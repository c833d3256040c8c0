"""How much of a pass is computed again for gradients: what the device has room for."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn

from alignment.training.config import AlignConfig
from alignment.training.loader import PairLoader
from alignment.training.policy import autocasts
from alignment.training.schedule import Draw
from generators.base import Generator

Recomputed = bool | Literal["feed_forward", "twice"]
Way = TypeVar("Way")

WAYS: tuple[Recomputed, ...] = (False, "feed_forward", True, "twice")
"""The fastest first, which need most."""

SPARE = 0.9
"""Share of the memory that may be used: what is given back is never all in one piece, and a recorded pass keeps what it
has, so that others must do with the rest.
"""
NO_ROOM = ("ALLOC_FAILED", "unable to find an engine")
"""What cuBLAS and cuDNN say where there is no memory for a workspace of theirs."""


def recomputation(
    generator: Generator,
    loader: PairLoader,
    config: AlignConfig,
    device: torch.device,
    applied: Callable[[Recomputed], AbstractContextManager[Any]],
) -> Recomputed:
    """What 'auto' means for the policy that is ``generator``'s denoiser: the first of :data:`WAYS` with which a pass
    forward and backward over a micro-batch of ``loader`` fits, with the optimizer's state beside it.

    ``applied`` puts a way in force. Nothing is recomputed on a CPU, all where weights lie in shards: one process of
    several alone could not try.
    """
    if config.gradient_checkpointing != "auto":
        return config.gradient_checkpointing
    if device.type != "cuda":
        return False
    if parse_flag_from_env("ACCELERATE_USE_FSDP") or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        return True
    parameters = [parameter for parameter in generator.denoiser.parameters() if parameter.requires_grad]
    draws = [Draw(number % len(loader.pairs), 0, 0) for number in range(config.micro_batch)]

    autocast = torch.autocast("cuda", torch.bfloat16, enabled=autocasts(generator.denoiser, config))

    def peak(way: Recomputed) -> int:
        with applied(way), autocast:
            return _peak(lambda: _pass(generator, loader, draws), parameters, _later(parameters, config))

    return first_that_fits(WAYS, peak, _room())


def first_that_fits(ways: Sequence[Way], peak: Callable[[Way], int], room: float) -> Way:
    """The first of ``ways`` whose ``peak`` (bytes) is within ``room``, the last one if none is; a way that runs out of
    memory is not.
    """
    for way in ways[:-1]:
        try:
            if peak(way) <= room:
                return way
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and not any(words in f"{error}" for words in NO_ROOM):
                raise
    return ways[-1]


def _peak(work: Callable[[], None], parameters: Sequence[nn.Parameter], beside: int) -> int:
    """The most bytes that are held while ``work`` is done, with ``beside`` bytes more."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        # Held, so that a limit that was set for this process counts them, too.
        held = torch.empty(beside, dtype=torch.uint8, device="cuda")
        work()
        del held
        return torch.cuda.max_memory_allocated()
    finally:
        for parameter in parameters:
            parameter.grad = None
        torch.cuda.empty_cache()


def _pass(generator: Generator, loader: PairLoader, draws: Sequence[Draw]) -> None:
    batch = loader.load(draws)
    noisy = generator.add_noise(batch.latents, batch.noise, batch.timesteps)
    generator.predict(noisy, batch.timesteps, batch.prompt_embeds, batch.settings).square().mean().backward()


def _room() -> float:
    """Bytes that this process may hold on its GPU."""
    return SPARE * (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())


def _later(parameters: Sequence[nn.Parameter], config: AlignConfig) -> int:
    """Bytes of what a training adds to its first pass: two moments of each number, and an average of the weights."""
    numbers = sum(parameter.numel() for parameter in parameters)
    average = 0 if config.ema_decay is None else 4
    reference = 4 if config.parameters == "all" and config.anchor_weight else 0
    return numbers * ((8 if config.optimizer == "adamw" else 2) + average + reference)
