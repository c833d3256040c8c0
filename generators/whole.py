"""Whether all of a pipeline was in its directory: libraries fill in what is not there, at random or with nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from videoduet.loading import lacking, some


def whole_encoders(path: str | Path, precision: torch.dtype | Mapping[str, torch.dtype]) -> dict[str, nn.Module]:
    """By name the models that transformers loads of the pipeline at ``path``, each in its ``precision`` ('default': for
    those without one).

    Raises ValueError where weights are missing: transformers would draw them at random, with a warning.
    """
    models = {}
    for name, (library, kind) in _components(path).items():
        model = getattr(transformers, kind, None) if library == "transformers" else None
        if not (isinstance(model, type) and issubclass(model, transformers.PreTrainedModel)):
            continue
        dtype = precision if isinstance(precision, torch.dtype) else precision.get(name, precision["default"])
        loader: Any = model
        models[name], info = loader.from_pretrained(path, subfolder=name, dtype=dtype, output_loading_info=True)
        if problem := lacking(info):
            raise ValueError(f"its {name} lacks {problem}")
    return models


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
