"""A denoiser and an autoencoder that draw fast, for as long as videos are drawn."""

from collections.abc import Callable

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from peft import PeftModel
from torch import nn

from generators.config import Speed
from generators.fast.channels_last import keep_channels_last
from generators.fast.graphs import record
from videoduet.errors import InputError
from videoduet.gpu import kernels_run
from videoduet.progress import console
from videoduet.rewriting import Rewrites


def draw_fast(denoiser: nn.Module, autoencoder: nn.Module | None, speed: Speed) -> Rewrites:
    """The change of a generator's ``denoiser`` and ``autoencoder`` (None where training forgot it), on the device where
    they are, after which they compute as ``speed`` says, until it is undone (by ``undo()`` or as a context manager).
    Values are the same up to rounding.

    A 3D UNet and an image autoencoder take fused forms of their own, which on a GPU are kernels that compile in seconds
    and one recording of the denoiser for each size of batch. Of other denoisers the repeated blocks are compiled by
    torch.compile, which takes minutes, once for a machine: only where ``compiled`` is asked for. Where kernels cannot
    be built, ``auto`` changes nothing. Raises InputError where there is nothing to compile.
    """
    rewrites = Rewrites()
    base = denoiser.get_base_model() if isinstance(denoiser, PeftModel) else denoiser
    device = next(denoiser.parameters()).device
    if speed == "eager" or (speed == "auto" and device.type != "cuda"):
        return rewrites
    if isinstance(base, UNet3DConditionModel):
        if device.type == "cuda":
            # Kernels and graphs are for the current device.
            rewrites.add(_current(device))
            if not kernels_run(device) and speed == "auto":
                rewrites.undo()
                return rewrites
        rewrites.add(keep_channels_last(denoiser).undo)
        if isinstance(autoencoder, AutoencoderKL):
            rewrites.add(keep_channels_last(autoencoder).undo)
        if device.type == "cuda":
            rewrites.add(record(denoiser, device).undo)
    elif speed == "compiled":
        _compile_blocks(denoiser, rewrites)
    return rewrites


def _current(device: torch.device) -> Callable[[], None]:
    """Make ``device`` this thread's current GPU; calling what is returned takes that back."""
    context = torch.cuda.device(device)
    context.__enter__()

    def leave() -> None:
        context.__exit__(None, None, None)

    return leave


def _compile_blocks(denoiser: nn.Module, rewrites: Rewrites) -> None:
    """Let each block compile at its first call: alike ones share one compilation, which PyTorch keeps on disk."""
    models = [part for part in denoiser.modules() if isinstance(part, ModelMixin)]
    # Where diffusers does not say what repeats, it says what is not to be split.
    names = {name for model in models for name in model._repeated_blocks or model._no_split_modules or ()}
    blocks = [part for part in denoiser.modules() if type(part).__name__ in names]
    if not blocks:
        raise InputError(f"A {type(denoiser).__name__} has no blocks to compile; give `speed: eager`.")
    console.print(
        f"The first batch compiles the denoiser's {len(blocks)} blocks (torch.compile), which may take minutes; later "
        "runs on this machine find it done.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    for block in blocks:
        block.compile()
        rewrites.add(lambda block=block: setattr(block, "_compiled_call_impl", None))
