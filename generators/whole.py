"""Whether all of a pipeline was in its directory: libraries fill in what is not there, at random or with nothing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from videoduet.loading import lacking, refuse_odd, some


def whole_models(
    path: str | Path, precision: torch.dtype | Mapping[str, torch.dtype], fewer: Mapping[str, Any] | None = None
) -> dict[str, nn.Module]:
    """By name the models of the pipeline at ``path``, each in its ``precision`` ('default': for those without one), or
    in fewer bits, as ``fewer`` says of it (:func:`videoduet.quantized.how`).

    Raises ValueError where weights are missing, which libraries would draw at random or leave out, where nothing takes
    some, or where some are not finite.
    """
    models = {}
    for name, (library, kind) in _components(path).items():
        model, whole = _model_class(library, kind), Path(path) / name
        if model is None:
            continue
        dtype = precision if isinstance(precision, torch.dtype) else precision.get(name, precision["default"])
        given: dict[str, Any] = {"dtype" if library == "transformers" else "torch_dtype": dtype}
        if (bits := (fewer or {}).get(name)) is not None:
            given["quantization_config"] = bits
        # Within a directory a model's own path is what it would be called in its config.
        where = (str(whole), {}) if library == "diffusers" and whole.is_dir() else (str(path), {"subfolder": name})
        models[name], info = model.from_pretrained(where[0], **where[1], **given, output_loading_info=True)
        if problem := lacking(info):
            raise ValueError(f"its {name} lacks {problem}, of {len(models[name].state_dict())} tensors")
        if library == "transformers":
            info = {"unexpected_keys": _of_its_own(models[name], info["unexpected_keys"])}
        refuse_odd(models[name], info, f"its {name}")
    return models


def _model_class(library: str, kind: str) -> Any:
    """The class of a component that has weights; None for others, and for those of no library."""
    base = {"transformers": transformers.PreTrainedModel, "diffusers": ModelMixin}.get(library)
    found = getattr({"transformers": transformers, "diffusers": diffusers}.get(library), kind, None)
    return found if base is not None and isinstance(found, type) and issubclass(found, base) else None


def _of_its_own(encoder: Any, unexpected: Iterable[str]) -> list[str]:
    """Those of ``unexpected`` that stand in a part which ``encoder`` has. Other parts are the rest of the model that a
    text encoder was taken from: CLIP's half for pictures, T5's decoder.
    """
    parts = {encoder.base_model_prefix, *(name.partition(".")[0] for name in encoder.state_dict())}
    return [name for name in unexpected if name.partition(".")[0] in parts]


def _components(path: str | Path) -> dict[str, tuple[str, str]]:
    index: Any = DiffusionPipeline.load_config(str(path))
    return {
        name: (str(value[0]), str(value[1]))
        for name, value in index.items()
        if isinstance(value, list | tuple) and len(value) == 2
    }


def refuse_holes(components: Mapping[str, Any]) -> None:
    """Raises ValueError where a model's weights are not there, or a tokenizer knows no words."""
    for name, component in components.items():
        if isinstance(component, nn.Module):
            if missing := [each for each, value in component.state_dict().items() if value.is_meta]:
                raise ValueError(f"its {name} lacks {some(missing)}, of {len(component.state_dict())} tensors")
        elif isinstance(component, transformers.PreTrainedTokenizerBase) and len(component) < 1 + len(
            component.all_special_ids
        ):
            kind = type(component).__name__
            raise ValueError(f"its {name} has no vocabulary (tokenizer.json, or vocab.json and merges.txt; {kind})")
