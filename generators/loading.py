"""Load a generator by what its diffusers directory says it is."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft import PeftModel
from torch import nn

from generators.base import Generator
from videoduet.adapters import put_on
from videoduet.config import Precision
from videoduet.errors import InputError
from videoduet.loading import check_files, loading
from videoduet.quantized import LoadIn, check

FAMILIES = {
    "T2VTurboPipeline": "generators.families.t2v_turbo.T2VTurbo",
    "VideoCrafter2Pipeline": "generators.families.videocrafter2.VideoCrafter2",
    "TextToVideoSDPipeline": "generators.families.modelscope.ModelScope",
    "WanPipeline": "generators.families.wan.Wan",
    "CogVideoXPipeline": "generators.families.cogvideox.CogVideoX",
    "LTXPipeline": "generators.families.ltx.LTX",
    "LTX2Pipeline": "generators.families.ltx2.LTX2",
    "HunyuanVideo15Pipeline": "generators.families.hunyuan.HunyuanVideo15",
}
"""Where the generator is for each pipeline class that a ``model_index.json`` may name; only that one is imported."""


def load_generator(
    path: str | Path,
    *,
    sampler: dict[str, Any] | None = None,
    dtype: Precision = "float32",
    device: str = "cpu",
    load_in: LoadIn | None = None,
) -> Generator:
    """The generator in the diffusers directory or hub id ``path``, on ``device``, in the precision ``dtype``, the
    linear layers of its denoiser in as many bits as ``load_in`` says. ``sampler`` overrides the family's sampling
    settings.

    Raises InputError where it cannot be found, its pipeline class is not supported, or weights cannot be held so here.
    """
    check(load_in, "load_in")
    name = pipeline_class(path)
    if name not in FAMILIES:
        raise InputError(f"Generator {path} is a {name}; supported are {', '.join(FAMILIES)}.")
    module, _, family = FAMILIES[name].rpartition(".")
    # A family of somebody's own need not know of it.
    fewer = {} if load_in is None else {"load_in": load_in}
    generator = getattr(import_module(module), family).from_pretrained(
        path, sampler=sampler or {}, dtype=getattr(torch, dtype), **fewer
    )
    generator.to(device)
    return generator


def pipeline_class(path: str | Path) -> str:
    """The pipeline class that the ``model_index.json`` in the diffusers directory or hub id ``path`` names.

    Raises InputError where there is none.
    """
    check_files(path)
    missing = f"Generator {path} is no diffusers directory: it has no model_index.json."
    if Path(path).exists() and not (Path(path) / "model_index.json").is_file():
        raise InputError(missing)
    with loading(f"Generator {path} cannot be loaded", "give a diffusers directory, whole."):
        try:
            config: Any = DiffusionPipeline.load_config(str(path))
        except OSError as error:
            if Path(path).exists():
                raise
            raise InputError(missing) from error
        if not isinstance(config, dict) or "_class_name" not in config:
            raise ValueError("its model_index.json names no pipeline class (_class_name)")
        return str(config["_class_name"])


def with_adapter(generator: Generator, adapter: str | Path | None) -> Generator:
    """``generator`` with the LoRA at ``adapter`` in force (none for None), for sampling.

    It is merged into float32 weights only: in half precision most of what it learned would be rounded away.
    """
    if adapter is not None:
        adapted = load_adapter(generator.denoiser, adapter)
        generator.denoiser = (adapted.merge_and_unload() if adapted.dtype is torch.float32 else adapted).eval()
    return generator


def load_adapter(denoiser: nn.Module, adapter: str | Path, *, is_trainable: bool = False) -> PeftModel:
    """``denoiser``, wrapped, with the LoRA at ``adapter`` (a PEFT directory).

    Raises InputError where there is none, or where any of its tensors is missing or has no place.
    """
    return put_on(denoiser, adapter, "generator", is_trainable=is_trainable)
