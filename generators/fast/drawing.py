"""A generator that draws fast: what its family offers, for as long as videos are drawn."""

from diffusers import AutoencoderKL, UNet3DConditionModel
from peft import PeftModel
from torch import nn

from generators.base import Generator
from generators.config import Speed
from generators.families.diffusers_base import DiffusersGenerator
from generators.fast.channels_last import keep_channels_last
from generators.fast.graphs import record
from videoduet.errors import InputError
from videoduet.progress import console
from videoduet.rewriting import Rewrites


def draw_fast(generator: Generator, speed: Speed) -> Rewrites:
    """The change of ``generator``, on the device where it is, after which it samples, decodes and encodes as ``speed``
    says, until it is undone (by ``undo()`` or as a context manager). Values are the same up to rounding.

    A 3D UNet and an image autoencoder take fused forms of their own, which on a GPU are kernels that compile in seconds
    and one recording of the denoiser for each size of batch. Of other denoisers the repeated blocks are compiled by
    torch.compile, which takes minutes, once for a machine: only where ``compiled`` is asked for. Raises InputError
    where there is nothing to compile.
    """
    denoiser, rewrites = generator.denoiser, Rewrites()
    base = denoiser.get_base_model() if isinstance(denoiser, PeftModel) else denoiser
    device = next(denoiser.parameters()).device
    if speed == "eager" or (speed == "auto" and device.type != "cuda"):
        return rewrites
    if isinstance(base, UNet3DConditionModel):
        rewrites.add(keep_channels_last(denoiser).undo)
        for autoencoder in _autoencoders(generator):
            rewrites.add(keep_channels_last(autoencoder).undo)
        if device.type == "cuda":
            rewrites.add(record(denoiser, device).undo)
    elif speed == "compiled":
        _compile_blocks(denoiser, rewrites)
    return rewrites


def _autoencoders(generator: Generator) -> list[AutoencoderKL]:
    """The generator's image autoencoder; none where training has forgotten it."""
    if not isinstance(generator, DiffusersGenerator):
        return []
    return [part for part in generator.pipeline.components.values() if isinstance(part, AutoencoderKL)]


def _compile_blocks(denoiser: nn.Module, rewrites: Rewrites) -> None:
    """Let each block compile at its first call: alike ones share one compilation, which PyTorch keeps on disk."""
    names = {name for module in denoiser.modules() for name in getattr(module, "_repeated_blocks", None) or ()}
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
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
