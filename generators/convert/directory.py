"""Write a converted checkpoint as a diffusers directory, tensor by tensor."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import LCMScheduler
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTokenizer

from generators.convert.encoders import ldm_vae, open_clip_text
from generators.convert.lora import lora_pairs, merge, with_guidance
from generators.convert.strict import part, read_checkpoint
from generators.convert.unet import FOLDED, UNET_PREFIX, as_diffusers, fold_fps, plan
from generators.t2v_turbo import T2VTurboPipeline
from videoduet.errors import InputError
from videoduet.progress import track
from videoduet.store import atomic_path, write_json

SHARD_BYTES = 2**30
"""Size of the files that a UNet is written in, and what is in memory at a time."""
WEIGHTS = "diffusion_pytorch_model"


def _shards(sizes: Mapping[str, int]) -> list[list[str]]:
    """Names in order, cut where a file would grow beyond ``SHARD_BYTES``."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def write_turbo_unet(
    checkpoint: Path, output: Path, *, fps: float, dtype: torch.dtype, lora: Sequence[Tensor] | None = None,
    time_cond_proj: str | None = None,
) -> None:  # fmt: skip
    """T2V-Turbo's UNet from ``checkpoint``, with its LoRA merged if one is given, in diffusers' layout.

    Names and shapes are checked before anything is written. The checkpoint is mapped anew for each file, so that
    memory holds little more than one of them. ``time_cond_proj='zeros'`` fills in what VideoCrafter2 has not. Raises
    InputError for what does not fit.
    """
    source = part(read_checkpoint(checkpoint), UNET_PREFIX)
    fill = None
    if time_cond_proj == "zeros" and "time_embed.0.weight" in source:
        fill = torch.zeros(source["time_embed.0.weight"].shape[1], 256)
    base = with_guidance(source, fill)
    unet, names = plan(base, fps=fps)
    changes = lora_pairs(base, lora) if lora is not None else {}
    small = {name: _merged(base, changes, name) for name in base if name.startswith(("time_embed.", "fps_embedding."))}
    bias = fold_fps(small, fps)
    itemsize = torch.empty(0, dtype=dtype).itemsize
    shards = _shards({new: base[old].numel() * itemsize for new, old in names.items()})
    # Latents of 320x512, which T2V-Turbo was trained on.
    unet.register_to_config(sample_size=(40, 64))
    unet.save_config(output)
    del source, base
    files = {}
    for index, shard in enumerate(track(shards, "writing the UNet"), 1):
        mapped = with_guidance(part(read_checkpoint(checkpoint), UNET_PREFIX), fill)
        tensors = {new: as_diffusers(new, _merged(mapped, changes, names[new])) for new in shard}
        if FOLDED in tensors:
            tensors[FOLDED] = bias
        file = f"{WEIGHTS}-{index:05d}-of-{len(shards):05d}.safetensors"
        tensors = {new: tensor.to(dtype).contiguous() for new, tensor in tensors.items()}
        save_file(tensors, output / file, metadata={"format": "pt"})
        files |= dict.fromkeys(shard, file)
        del mapped, tensors
    size = sum((output / file).stat().st_size for file in set(files.values()))
    write_json(output / f"{WEIGHTS}.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": files})


def _merged(base: Mapping[str, Tensor], changes: Mapping[str, tuple[Tensor, Tensor]], name: str) -> Tensor:
    return merge(base[name], *changes[name]) if name in changes else base[name]


def write_turbo_directory(
    checkpoint: Path, output: Path, tokenizer: str, *, unet: Path | None = None, lora: Path | None = None,
    fps: float = 16, dtype: torch.dtype = torch.float32, time_cond_proj: str | None = None,
) -> None:  # fmt: skip
    """T2V-Turbo (VideoCrafter2) as the directory of a :class:`generators.T2VTurboPipeline`.

    Autoencoder and text encoder come from ``checkpoint``, VideoCrafter2's ``model.ckpt`` layout; the UNet from there
    too, or from ``unet``, with ``lora`` merged if given. ``tokenizer`` is a directory or hub id of CLIP's. The
    directory appears when it is whole. Raises InputError for files that do not fit.
    """
    pairs = None if lora is None else read_lora(lora)
    try:
        words = CLIPTokenizer.from_pretrained(tokenizer, pad_token="!")
    except OSError as error:
        raise InputError(f"Tokenizer {tokenizer} cannot be loaded; give a directory with CLIP's vocabulary.") from error
    with atomic_path(output) as temporary:
        ldm_vae(read_checkpoint(checkpoint)).to(dtype).save_pretrained(temporary / "vae")
        text_encoder = open_clip_text(read_checkpoint(checkpoint))
        if len(words) > text_encoder.config.vocab_size:
            known = text_encoder.config.vocab_size
            raise InputError(f"Tokenizer {tokenizer} has {len(words)} words and the text encoder knows {known}.")
        text_encoder.to(dtype).save_pretrained(temporary / "text_encoder")
        (temporary / "unet").mkdir()
        write_turbo_unet(
            unet or checkpoint, temporary / "unet", fps=fps, dtype=dtype, lora=pairs, time_cond_proj=time_cond_proj
        )
        words.save_pretrained(temporary / "tokenizer")
        LCMScheduler().save_pretrained(temporary / "scheduler")
        write_json(temporary / "model_index.json", model_index())


def model_index() -> dict:
    """What tells diffusers how to put the pipeline together."""
    return {
        "_class_name": T2VTurboPipeline.__name__,
        "scheduler": ["diffusers", "LCMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet3DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def read_lora(path: Path) -> list[Tensor]:
    """A LoRA file: a flat list of tensors. Raises InputError where it is something else."""
    content = read_checkpoint(path)
    if not isinstance(content, list) or not all(isinstance(tensor, Tensor) for tensor in content):
        raise InputError(f"{path} is no T2V-Turbo LoRA, which is a flat list of tensors.")
    return content
