"""Finding and loading a judge's weights: directories, subfolders, hub ids and PEFT adapters."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from packaging.version import Version
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, ProcessorMixin
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from reward_model.encoding import encoder_class, tokens_per_second
from reward_model.families import FAMILIES, family_named
from reward_model.families.base import has_motion
from reward_model.families.pairs import give_pairs
from reward_model.families.scores import HEADS, PAIRS, give_heads, score_dimensions
from reward_model.families.sense import ENCODER, PROJECTOR, give_motion
from reward_model.judging.beside import beside
from reward_model.presets import kept_prompts, preset_named
from reward_model.prompts import PROMPT_FILES, Prompts
from videoduet.adapters import base_of, put_on
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.loading import check_files, lacking, loading, refuse_odd
from videoduet.quantized import LoadIn, check, how
from videoduet.records import stable_id
from videoduet.store import content_hash, read_json

WHOLE = "give a transformers or PEFT directory, whole."
PROCESSOR_FILES = {
    "tokenizer": ("tokenizer.json", "vocab.json"),
    "settings of what prepares videos": (
        "processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json",
    ),
}  # fmt: skip
"""What lies beside a judge's weights, and the files that it may be in."""


def weights_id(directory: str | Path) -> str:
    """A hash of the weights in a local directory, and of what a sense of motion pools by, how scores are cut off
    and how sure they are, where that is said; the name itself for a hub id (whose revision the config pins).
    """
    files = sorted(Path(directory).glob("*.safetensors"))
    if not files:
        return str(directory)
    about = Path(directory) / CONFIG_NAME
    with loading(f"Judge {directory} cannot be loaded", WHOLE):
        kept = read_json(about) if about.exists() else {}
    # Nothing is said of other judges, whose ids stand in what was recorded.
    told = [
        f"{name} {kept[name]}"
        for name in ("motion_window", "score_relu", "score_calibration")
        if kept.get(name) is not None
    ]
    return stable_id(*map(content_hash, files), *told)


def local_directory(path: str | Path, subfolder: str | None = None) -> str:
    """Where a judge's files lie: a directory (also one that ships), or a hub id's from the cache or the hub, and the
    subfolder in it.

    A directory that has no such subfolder is taken to be the checkpoint itself. Raises InputError where nothing is
    found.
    """
    path = resolve(str(path))
    if subfolder is None or Path(path).exists():
        inner = Path(path) / (subfolder or "")
        if subfolder is not None and Path(path).is_dir() and not inner.is_dir():
            _check_top(Path(path), subfolder)
        return str(inner if inner.is_dir() else path)
    try:
        return str(Path(snapshot_download(str(path), allow_patterns=f"{subfolder}/*")) / subfolder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Judge {path}/{subfolder} is neither on this disk nor can it be fetched ({error})."
        ) from error


def _check_top(path: Path, subfolder: str) -> None:
    """Raises InputError where ``path`` has neither the subfolder nor a checkpoint of its own, but others."""
    others = sorted(file.parent.name for file in path.glob("*/config.json"))
    if others and not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        raise InputError(
            f"Judge {path} has no {subfolder}, only {', '.join(others)}; give the preset of one of these, or download "
            f"{subfolder} beside them."
        )


def load_model(
    path: str | Path, adapter: str | Path | None = None, dtype: str = "float32", load_in: LoadIn | None = None
) -> torch.nn.Module:
    """The vision-language model at ``path`` (or, for a PEFT directory, the base it names with the adapter in it).

    ``adapter`` is put on top of that. Adapters are merged where the weights are float32, and else kept beside them in
    float32, so that nothing that they learned is rounded away. ``load_in`` says in how many bits the linear layers of
    the language model are held, where it is a base without an adapter. Raises InputError where nothing can be loaded.
    """
    check(load_in, "load_in")
    check_files(path)
    with loading(f"Judge {path} cannot be loaded", WHOLE):
        if (Path(path) / "adapter_config.json").exists():
            if load_in is not None:
                raise InputError(
                    f"Judge {path} is an adapter, which cannot be merged into weights in {load_in}; merge it first "
                    "(a run does with --merge)."
                )
            model = _adapted(load_model(base_of(path), dtype=dtype), path)
        else:
            check_family(path)
            model = _whole_model(path, dtype, load_in)
        # PEFT takes a model's name for the base of an adapter that is trained on it, whatever its config says.
        setattr(model, "name_or_path", str(path))  # noqa: B010
        return model if adapter is None else _adapted(model, adapter)


def check_motion(model: Any, path: str | Path, preset: str | None) -> None:
    """Raises InputError where the judge that ``preset`` is of has a sense of motion, and the ``model`` at ``path`` has
    none.
    """
    if preset_named(preset).motion and not has_motion(model):
        raise InputError(
            f"Judge {path} has no motion weights, and preset {preset} asks one that has; give VQAThinker's checkpoint, "
            "converted by pipelines.convert_judge vqathinker, or take the preset out.",
            exit_code=2,
        )


def check_family(path: str | Path) -> None:
    """Raises InputError unless the model at ``path`` is of a family that can judge."""
    check_files(path)
    with loading(f"Judge {path} cannot be loaded", WHOLE):
        if (family := AutoConfig.from_pretrained(path).model_type) not in FAMILIES:
            raise InputError(f"Judge {path} is a {family}; give one of {', '.join(FAMILIES)}.")
        oldest = family_named(family).transformers
        if Version(transformers.__version__) < Version(oldest):
            raise InputError(f"Judge {path} is a {family}, which needs transformers {oldest} or newer; upgrade it.")


def rates_in_numbers(path: str | Path) -> bool:
    """Whether the judge at ``path``, or the one that its adapter goes on, is an AIGV-Assessor; what cannot be read is
    none, and is told of where it is loaded.
    """
    try:
        return score_dimensions(AutoConfig.from_pretrained(base_directory(path))) is not None
    except Exception:
        return False


def positions_per_second(path: str | Path) -> float | None:
    """How many positions a second has for the model at ``path`` (:func:`reward_model.encoding.tokens_per_second`)."""
    with loading(f"Judge {path} cannot be loaded", WHOLE):
        return tokens_per_second(AutoConfig.from_pretrained(path))


def _whole_model(path: str | Path, dtype: str, load_in: LoadIn | None = None) -> Any:
    # What a checkpoint lacks would be drawn at random, with a warning.
    auto: Any = AutoModelForImageTextToText
    given: dict[str, Any] = {"dtype": getattr(torch, dtype), "output_loading_info": True}
    if load_in is not None:
        family = family_named(AutoConfig.from_pretrained(path).model_type)
        # What sees stays as it is: it is small, and what it loses nothing after it can know.
        given["quantization_config"] = how(
            load_in, "transformers", dtype, (*(f".*{part}" for part in family.sees), "lm_head")
        )
    with _without_table():
        model, info = auto.from_pretrained(path, **given)
    if problem := lacking(info):
        raise ValueError(f"its weights lack {problem}")
    strange = set(info["unexpected_keys"])
    moving, rating = (
        {name for name in strange if name.startswith(tuple(f"{part}." for part in parts))}
        for parts in ((PROJECTOR, ENCODER), (HEADS, PAIRS))
    )
    refuse_odd(model, {**info, "unexpected_keys": strange - moving - rating}, "its weights")
    directory = Path(str(cached_file(path, CONFIG_NAME))).parent
    if moving or getattr(model.config, "motion_window", None) is not None:
        give_motion(model, directory)
    for part, give in ((HEADS, give_heads), (PAIRS, give_pairs)):
        if any(name.startswith(f"{part}.") for name in rating):
            give(model, directory)
    return model


@contextmanager
def _without_table() -> Generator[None]:
    """Within it transformers prints no table of what a checkpoint lacks or has too much, which would name every motion
    weight: what matters of it is refused, in one sentence. Nor does it list the layers that it did not split over
    devices, as releases from 5.24 on do where the other logger is this quiet.
    """
    names = ("transformers.modeling_utils", "transformers.distributed.tensor_parallel")
    before = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in before:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def _adapted(model: torch.nn.Module, adapter: str | Path) -> torch.nn.Module:
    adapted: Any = put_on(model, adapter, "judge")
    if model.dtype is torch.float32:
        return adapted.merge_and_unload()
    try:
        return beside(adapted)
    except ValueError as error:
        raise InputError(
            f"Adapter {adapter} cannot be kept beside weights in half precision ({error}); load the judge in float32."
        ) from error


def lineage(path: str | Path) -> list[str]:
    """The judge at ``path``, the base that it names where it is a PEFT directory, the base of that, and so on."""
    if (Path(path) / "adapter_config.json").exists():
        return [str(path), *lineage(base_of(path))]
    return [str(path)]


def base_directory(path: str | Path) -> str:
    """Where the processor lives: the directory itself, or the base that a PEFT directory names."""
    return lineage(path)[-1]


def own_prompts(path: str | Path, prompts: Prompts, adapter: str | Path | None = None) -> Prompts:
    """``prompts`` with those in their place that are kept beside the judge at ``path``, or else beside its base; those
    beside ``adapter`` go before both.
    """
    for directory in [*reversed(lineage(path)), *([] if adapter is None else [adapter])]:
        prompts = kept_prompts(directory, prompts)
    return prompts


def wording_directory(path: str | Path) -> str:
    """The directory in the lineage of the judge at ``path`` that holds what it was last trained to be asked when it
    compares; its base where none does.
    """
    found = lineage(path)
    return next((each for each in found if (Path(each) / PROMPT_FILES["compare"]).exists()), found[-1])


def load_processor(path: str | Path) -> ProcessorMixin:
    """What writes questions for the model whose base lies at ``path`` and shows it videos.

    Raises InputError that names the part that is missing: a tokenizer and its vocabulary, what prepares videos, a chat
    template.
    """
    check_files(path)
    fetch = "download it from the repository of the model that this was trained from, into the same directory."
    for what, names in PROCESSOR_FILES.items():
        if Path(path).is_dir() and not any((Path(path) / name).exists() for name in names):
            raise InputError(f"Judge {path} has no {what} ({' or '.join(names)}); {fetch}")
    with loading(f"Judge {path} has no processor that can be loaded", f"its files may be missing; {fetch}"):
        processor = AutoProcessor.from_pretrained(path)
    found = type(processor).__name__
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or len(tokenizer) == len(tokenizer.all_special_ids):
        raise InputError(f"Judge {path} has no vocabulary (tokenizer.json; loaded as {found}); {fetch}")
    seen = encoder_class(processor).vision_token
    if tokenizer.convert_tokens_to_ids(seen) in (None, tokenizer.unk_token_id):
        raise InputError(
            f"Judge {path} has a tokenizer without {seen} ({type(tokenizer).__name__}); its files are another "
            f"model's or not whole (tokenizer.json, tokenizer_config.json); {fetch}"
        )
    if getattr(processor, "video_processor", None) is None:
        raise InputError(
            f"Judge {path} has nothing that prepares videos (video_preprocessor_config.json; loaded as {found}); "
            f"{fetch}"
        )
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        raise InputError(f"Judge {path} has no chat template (chat_template.jinja; loaded as {found}); {fetch}")
    return processor
