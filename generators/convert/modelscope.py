"""T2V-Turbo-MS: a LoRA on ModelScope's text-to-video, which is in diffusers' layout already."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, LCMScheduler, UNet3DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from generators.convert.directory import WEIGHTS, model_index, read_lora, write_shards
from generators.convert.lora import merge, modelscope_lora_modules, paired, with_guidance
from generators.convert.state_dict import check, read_checkpoint
from generators.families.t2v_turbo import T2VTurboPipeline
from videoduet.config import Precision
from videoduet.errors import InputError
from videoduet.loading import check_files, loading
from videoduet.store import atomic_path, read_json, write_json

COND_PROJ = "time_embedding.cond_proj.weight"


def unet_files(folder: Path) -> list[Path]:
    """The files of a UNet's weights in a diffusers directory. Raises InputError where there are none."""
    index = folder / f"{WEIGHTS}.safetensors.index.json"
    if index.exists():
        return [folder / name for name in dict.fromkeys(read_json(index)["weight_map"].values())]
    files = [folder / f"{WEIGHTS}{suffix}" for suffix in (".safetensors", ".bin")]
    found = [file for file in files if file.exists()]
    if not found:
        raise InputError(
            f"{folder} holds no weights of a UNet; give ModelScope's text-to-video as a diffusers directory."
        )
    return found[:1]


def mapped_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of ``files``, mapped into memory rather than read."""
    return {name: value for file in files for name, value in read_checkpoint(file).items()}


def write_turbo_ms_unet(
    base: Path, lora: Sequence[Tensor], output: Path, dtype: torch.dtype, time_cond_proj: str | None
) -> None:
    """ModelScope's UNet (the directory ``base``), with an embedding of the guidance scale and the LoRA in its weights.

    ``time_cond_proj='zeros'`` is the base of that embedding, which ModelScope has not and the LoRA's file does not
    hold. Raises InputError without it, and for a LoRA or a base that does not fit.
    """
    config, files = UNet3DConditionModel.load_config(base), unet_files(base)
    with torch.device("meta"):
        unet = UNet3DConditionModel.from_config(config, time_cond_proj_dim=256)
    fill = torch.zeros(unet.config.block_out_channels[0], 256) if time_cond_proj == "zeros" else None

    def weights() -> Mapping[str, Tensor]:
        state = mapped_weights(files)
        if COND_PROJ not in state:
            state[COND_PROJ] = with_guidance({}, fill)["time_cond_proj.weight"]
        return state

    state = weights()
    check(unet, {name: value.shape for name, value in state.items()}, "UNet")
    changes = paired(state, modelscope_lora_modules(unet), lora)
    sizes = {name: value.numel() * value.itemsize for name, value in state.items()}
    del state

    def shard(names: Sequence[str]) -> dict[str, Tensor]:
        state = weights()
        merged = ((n, merge(state[n], *changes[n]) if n in changes else state[n]) for n in names)
        return {name: value.to(dtype).contiguous() for name, value in merged}

    unet.save_config(output)
    write_shards(output, sizes, shard)


def write_turbo_ms_directory(
    base: str, lora: Path, output: Path, *, dtype: Precision = "float32",
    time_cond_proj: Literal["zeros"] | None = None,
) -> None:  # fmt: skip
    """T2V-Turbo-MS as the directory of a :class:`generators.T2VTurboPipeline`, from ModelScope's directory or hub id.

    The directory appears when it is whole. Raises InputError for what cannot be loaded or does not fit.
    """
    pairs, precision = read_lora(lora), getattr(torch, dtype)
    parts = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "tokenizer": CLIPTokenizer}
    check_files(base)
    with loading(f"{base} cannot be used", "give ModelScope's text-to-video as a diffusers directory."):
        folder = Path(base if Path(base).is_dir() else DiffusionPipeline.download(base))
        with atomic_path(output) as temporary:
            (temporary / "unet").mkdir(parents=True)
            write_turbo_ms_unet(folder / "unet", pairs, temporary / "unet", precision, time_cond_proj)
            for name, kind in parts.items():
                part = kind.from_pretrained(folder, subfolder=name)
                (part if name == "tokenizer" else part.to(precision)).save_pretrained(temporary / name)
            LCMScheduler().save_pretrained(temporary / "scheduler")
            write_json(temporary / "model_index.json", model_index(T2VTurboPipeline, "LCMScheduler", fps=None))
