"""Finding and loading a judge's weights: directories, subfolders, hub ids and PEFT adapters."""

from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from packaging.version import Version
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForImageTextToText

from videoduet.errors import InputError
from videoduet.records import stable_id
from videoduet.store import content_hash

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")


def weights_id(directory: str | Path) -> str:
    """A hash of the weights in a local directory; the name itself for a hub id (whose revision the config pins)."""
    files = sorted(Path(directory).glob("*.safetensors"))
    return stable_id(*map(content_hash, files)) if files else str(directory)


def local_directory(path: str | Path, subfolder: str | None = None) -> str:
    """Where a judge's files lie: a directory, or a hub id's from the cache or the hub, and the subfolder in it.

    A directory that has no such subfolder is taken to be the checkpoint itself. Raises InputError where nothing is
    found.
    """
    if subfolder is None or Path(path).exists():
        inner = Path(path) / (subfolder or "")
        return str(inner if inner.is_dir() else path)
    try:
        return str(Path(snapshot_download(str(path), allow_patterns=f"{subfolder}/*")) / subfolder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Judge {path}/{subfolder} is neither on this disk nor can it be fetched ({error})."
        ) from error


def load_model(path: str | Path, adapter: str | Path | None = None, dtype: str = "float32") -> torch.nn.Module:
    """The vision-language model at ``path`` (or, for a PEFT directory, the base it names with the adapter merged in).

    ``adapter`` is put on top of that, and merged where the weights are float32. Raises InputError where nothing can be
    loaded.
    """
    try:
        if (Path(path) / "adapter_config.json").exists():
            base = PeftConfig.from_pretrained(str(path)).base_model_name_or_path
            model = PeftModel.from_pretrained(load_model(base, dtype=dtype), str(path)).merge_and_unload()
        else:
            if (family := AutoConfig.from_pretrained(path).model_type) not in FAMILIES:
                raise InputError(f"Judge {path} is a {family}; give one of {', '.join(FAMILIES)}.")
            if family.startswith("qwen3") and Version(transformers.__version__) < Version("5.18"):
                raise InputError(f"Judge {path} is a {family}, which needs transformers 5.18 or newer; upgrade it.")
            model = AutoModelForImageTextToText.from_pretrained(path, dtype=getattr(torch, dtype))
        # PEFT takes a model's name for the base of an adapter that is trained on it, whatever its config says.
        model.name_or_path = str(path)
        return model if adapter is None else _adapted(model, adapter)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"Judge {path} cannot be loaded ({reason}); give a transformers or PEFT directory.") from error


def _adapted(model: torch.nn.Module, adapter: str | Path) -> torch.nn.Module:
    # Into half-precision weights most of what the adapter learned would be rounded away.
    adapted = PeftModel.from_pretrained(model, str(adapter))
    return adapted.merge_and_unload() if model.dtype is torch.float32 else adapted


def base_directory(path: str | Path) -> str:
    """Where processor and judge prompt live: the directory itself, or the base that a PEFT directory names."""
    if (Path(path) / "adapter_config.json").exists():
        return base_directory(PeftConfig.from_pretrained(str(path)).base_model_name_or_path)
    return str(path)
