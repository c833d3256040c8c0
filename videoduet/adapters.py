"""LoRAs on models, put in force whole or not at all.

PEFT passes over what it does not find a place for, and leaves at zero what it does not find: an adapter whose names do
not fit would be "in force" and do nothing.
"""
# peft's types leave much open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from videoduet.errors import InputError
from videoduet.loading import check_files, loading, reason, refuse_not_finite, some

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

Value = TypeVar("Value")

WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, data-parallel training, FSDP and checkpointing put into the names of what they wrap."""
_PREFIX = "base_model.model."


def unwrapped(name: str) -> str:
    """The name of a tensor without what wrappings put into it, PEFT's own prefix and the name of the adapter."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    kept = [
        part
        for before, part in zip(["", *parts], parts, strict=False)
        if part != "default" or not before.startswith(("lora_", "modules_to_save"))
    ]
    return ".".join(kept).removeprefix(_PREFIX)


def fitted(given: Mapping[str, Value], expected: Iterable[str]) -> dict[str, Value]:
    """``given`` under the names of ``expected``, which may differ in wrappings alone.

    Raises ValueError that names what is missing, unexpected or given twice.
    """
    wanted = {unwrapped(name): name for name in expected}
    found: dict[str, Value] = {}
    unexpected: list[str] = []
    for name, value in given.items():
        place = wanted.get(unwrapped(name))
        if place is None:
            unexpected.append(name)
        elif place in found:
            raise ValueError(f"it has {place} twice, once as {name}")
        else:
            found[place] = value
    missing = set(wanted.values()) - found.keys()
    wrong = [f"it lacks {some(missing)}, of {len(wanted)} tensors"] if missing else []
    wrong += [f"nothing takes its {some(unexpected)}, of {len(given)} tensors"] if unexpected else []
    if wrong:
        raise ValueError("; ".join(wrong))
    return found


def put_on(
    model: "nn.Module", adapter: str | Path, what: str, *, name: str = "default", is_trainable: bool = False
) -> "PeftModel":
    """``model``, wrapped, with the LoRA at ``adapter`` (a PEFT directory or hub id) in it as ``name``; a model that is
    wrapped already gets it beside its others.

    ``what`` is what the model is called where the adapter is refused. Raises InputError where there is none, or where
    any of its tensors is missing or has no place.
    """
    from peft import PeftModel

    with _putting(adapter, what):
        check_files(adapter)
        mapping = getattr(model, "_checkpoint_conversion_mapping", {})
        if not isinstance(model, PeftModel):
            # What PeftModel.from_pretrained does, which keeps to itself what had no place.
            config = _config(adapter)
            config.inference_mode = not is_trainable
            model = PeftModel(model, config, name)
        try:
            result: Any = model.load_adapter(str(adapter), name, is_trainable=is_trainable, key_mapping=mapping)
        except KeyError:
            # Of a whole module that is saved with the adapter, a tensor has another name.
            result = None
        if result is None or result.missing_keys or result.unexpected_keys:
            _fit(model, weights_of(adapter), name)
        part = f".{name}."
        refuse_not_finite(((key, value) for key, value in model.named_parameters() if part in key), "its weights")
        return model


def put_into(model: Any, adapter: str | Path, what: str, *, name: str = "default") -> None:
    """Give the LoRA ``name`` that ``model`` has the weights at ``adapter``.

    Raises InputError where they do not fit: another rank or scale, or a tensor that is missing or has no place.
    """
    with _putting(adapter, what):
        check_files(adapter)
        given, own = _config(adapter), model.peft_config[name]
        for setting in ("r", "lora_alpha", "use_rslora"):
            theirs, ours = (getattr(config, setting, None) for config in (given, own))
            if theirs != ours:
                raise ValueError(f"its {setting} is {theirs}, where {ours} is trained")
        _fit(model, weights_of(adapter), name)


def weights_of(adapter: str | Path) -> "dict[str, Tensor]":
    """The tensors of the PEFT directory or hub id ``adapter``."""
    from peft import load_peft_weights

    return load_peft_weights(str(adapter), device="cpu")


def put_state(model: Any, state: "Mapping[str, Tensor]", source: object, what: str, *, name: str = "default") -> None:
    """Give the LoRA ``name`` that ``model`` has the tensors ``state``, which come from ``source``.

    Raises InputError where any is missing or has no place.
    """
    with _putting(source, what):
        _fit(model, state, name)


def _config(adapter: str | Path) -> Any:
    from peft import PeftConfig

    try:
        return PeftConfig.from_pretrained(str(adapter))
    except Exception as error:
        raise ValueError(f"its config cannot be loaded: {reason(error)}") from error


def _fit(model: Any, state: "Mapping[str, Tensor]", name: str) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    # "auto" would look for the base model's vocabulary, on the network if need be.
    expected = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    found = fitted(state, expected)
    refuse_not_finite(found.items(), "its weights")
    set_peft_model_state_dict(model, found, name)


def _putting(adapter: object, what: str) -> Any:
    return loading(f"Adapter {adapter} cannot be put on this {what}", "give a PEFT directory made for it.")


def base_of(adapter: str | Path) -> str:
    """The base model that the PEFT directory ``adapter`` names. Raises InputError where it names none."""
    from peft import PeftConfig

    mend = "give the directory that training wrote, with its adapter_config.json."
    with loading(f"Adapter {adapter} cannot be read", mend):
        base = PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    if not base:
        raise InputError(
            f"Adapter {adapter} names no base model (base_model_name_or_path in adapter_config.json is empty); write "
            "its path or hub id there, or give the base as --judge and this as --adapter."
        )
    return base
