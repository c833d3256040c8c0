"""A LoRA in the layouts that other tools load.

Ours are PEFT directories. Stock diffusers pipelines take one file whose names begin with the part of the pipeline;
ComfyUI takes one whose names are the released model's own after ``diffusion_model.``. Both scale a pair of matrices
that comes without an alpha by 1, so the scale is folded into the second one: there is nothing left to misread.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file
from torch import Tensor

from generators.config import ExportConfig
from generators.loading import load_generator, pipeline_class, with_adapter
from videoduet.adapters import unwrapped, weights_of
from videoduet.errors import InputError
from videoduet.loading import check_files, loading
from videoduet.store import atomic_path

PARTS = {
    "WanPipeline": "transformer",
    "CogVideoXPipeline": "transformer",
    "LTXPipeline": "transformer",
    "LTX2Pipeline": "transformer",
    "TextToVideoSDPipeline": "unet",
    "VideoCrafter2Pipeline": "unet",
    "T2VTurboPipeline": "unet",
}
"""The part of each pipeline that ``load_lora_weights`` gives a LoRA to; the names in the file begin with it. The last
two are this project's own: no stock pipeline loads LoRAs of VideoCrafter2, nor of HunyuanVideo-1.5, which is not here.
"""

EXPERTS = {"high": "high_noise", "low": "low_noise"}
"""Wan 2.2's A14B has two denoisers, each with its file; what their files are called."""

_WAN = (
    (r"\.attn1\.to_([qkv])$", r".self_attn.\1"),
    (r"\.attn1\.to_out\.0$", r".self_attn.o"),
    (r"\.attn2\.to_([qkv])$", r".cross_attn.\1"),
    (r"\.attn2\.to_out\.0$", r".cross_attn.o"),
    (r"\.ffn\.net\.0\.proj$", r".ffn.0"),
    (r"\.ffn\.net\.2$", r".ffn.2"),
)
COMFYUI: dict[str, tuple[tuple[str, str], ...]] = {"WanPipeline": _WAN, "LTXPipeline": ()}
"""For each pipeline whose LoRAs ComfyUI loads, how a module's name in diffusers becomes the released model's: Wan's
code has names of its own, LTX-Video's blocks are called alike in both.
"""


def folded(adapter: str | Path) -> dict[str, Tensor]:
    """The matrices of the LoRA at ``adapter`` (a PEFT directory), float32, by the denoiser's own names of its modules
    and ``.lora_A.weight`` or ``.lora_B.weight``, with α/r (α/√r where it is rank-stabilised) in the second.

    Raises InputError where it holds anything that is no plain pair of matrices (DoRA, biases, whole modules).
    """
    check_files(adapter)
    with loading(f"Adapter {adapter} cannot be loaded", "give a PEFT directory, whole."):
        config: Any = PeftConfig.from_pretrained(str(adapter))
        given = {unwrapped(name): value.float() for name, value in weights_of(adapter).items()}
    matrices: dict[str, Tensor] = {}
    for name, value in given.items():
        module, found, kind = name.rpartition(".lora_")
        if not found or kind not in ("A.weight", "B.weight"):
            raise InputError(
                f"Adapter {adapter} holds {name}, which is no plain LoRA matrix; write it with --format merged."
            )
        if kind == "B.weight":
            rank = value.shape[1]
            alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)
            value = value * (alpha / (rank**0.5 if config.use_rslora else rank))
        matrices[name] = value
    return matrices


def as_diffusers(matrices: Mapping[str, Tensor], pipeline: str) -> dict[str, Tensor]:
    """``matrices`` of :func:`folded` under the names that ``load_lora_weights`` of ``pipeline`` reads.

    Raises InputError for a ``pipeline`` that is not known here.
    """
    if pipeline not in PARTS:
        raise InputError(
            f"Known are the LoRAs of {', '.join(PARTS)}, not of a {pipeline}; write it with --format merged.",
            exit_code=2,
        )
    return {f"{PARTS[pipeline]}.{name}": value for name, value in matrices.items()}


def as_comfyui(matrices: Mapping[str, Tensor], pipeline: str) -> dict[str, Tensor]:
    """``matrices`` of :func:`folded` under the names that ComfyUI reads: ``diffusion_model.``, then the released
    model's name of the module.

    Raises InputError for a ``pipeline`` whose released names are not known here, or a module without one.
    """
    if pipeline not in COMFYUI:
        raise InputError(f"ComfyUI's names are known for {', '.join(COMFYUI)}, not for a {pipeline}.", exit_code=2)
    renamed: dict[str, Tensor] = {}
    for name, value in matrices.items():
        module, dot, kind = name.rpartition(".lora_")
        for pattern, native in COMFYUI[pipeline]:
            module, changed = re.subn(pattern, native, module)
            if changed:
                break
        else:
            if COMFYUI[pipeline]:
                raise InputError(f"Module {module} has no name in ComfyUI's {pipeline}; write it with --format merged.")
        renamed[f"diffusion_model.{module}{dot}{kind}"] = value
    return renamed


LAYOUTS: dict[str, Callable[[Mapping[str, Tensor], str], dict[str, Tensor]]] = {
    "diffusers": as_diffusers,
    "comfyui": as_comfyui,
}


def export(config: ExportConfig) -> list[Path]:
    """Write what ``config`` says; returns the files (for peft and merged: the directory).

    Raises InputError where the output is there already, or the format does not serve this generator.
    """
    adapter, output = Path(config.adapter), Path(config.output)
    if output.exists():
        raise InputError(f"{output} is there already; give another --output, or move it away.", exit_code=2)
    if config.format == "peft":
        folded(adapter)
        with atomic_path(output) as temporary:
            shutil.copytree(adapter, temporary)
        return [output]
    base = config.generator or base_of(adapter)
    if config.format == "merged":
        # In float32 whatever is written: in half precision most of what was learned would be rounded away.
        merged: Any = with_adapter(load_generator(base), adapter)
        with atomic_path(output) as temporary:
            merged.pipeline.to(getattr(torch, config.dtype)).save_pretrained(temporary)
        return [output]
    pipeline = pipeline_class(base)
    dtype = getattr(torch, config.dtype)
    files = {
        f"{adapter.resolve().name if not expert else EXPERTS[expert]}.safetensors": LAYOUTS[config.format](
            part, pipeline
        )
        for expert, part in by_expert(folded(adapter)).items()
    }
    with atomic_path(output) as temporary:
        temporary.mkdir()
        for name, tensors in files.items():
            tensors = {key: value.to(dtype).contiguous() for key, value in tensors.items()}
            save_file(tensors, temporary / name, metadata={"format": "pt"})
    return [output / name for name in files]


def by_expert(matrices: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``matrices`` of each of Wan 2.2's two denoisers, under its own names; of one denoiser, all under ''."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in matrices.items():
        first, _, rest = name.partition(".")
        expert, own = (first, rest) if first in EXPERTS else ("", name)
        parts.setdefault(expert, {})[own] = value
    return parts


def base_of(adapter: str | Path) -> str:
    """The generator that the LoRA at ``adapter`` was trained on, as it says. Raises InputError where it does not."""
    with loading(f"Adapter {adapter} cannot be loaded", "give a PEFT directory, whole."):
        base = PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    if not base:
        raise InputError(
            f"Adapter {adapter} does not say which generator it belongs to; give --generator.", exit_code=2
        )
    return base
