"""T2V-Turbo's LoRA files."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from generators.convert.state_dict import part
from generators.convert.unet import UNET_PREFIX
from videoduet.errors import InputError

LORA_ORDER = [
    *("time_embed", "fps_embedding", "time_cond_proj", "input_blocks", "init_attn", "middle_block", "output_blocks"),
    *("out", "in_layers", "emb_layers", "out_layers", "skip_connection", "temopral_conv", "conv1", "conv2", "conv3"),
    *("conv4", "proj_in", "transformer_blocks", "proj_out", "attn1", "ff", "attn2", "to_q", "to_k", "to_v", "to_out"),
    *("net", "proj", "op", "conv"),
]
"""Names of submodules in the order of their definition, which is that of the pairs in a LoRA file."""


def lora_modules(names: Iterable[str]) -> list[str]:
    """The modules that a T2V-Turbo LoRA covers, in its order, from the names of a UNet's weights of 2, 4 and 5 axes."""
    order = {name: rank for rank, name in enumerate(LORA_ORDER)}
    modules = [name.removesuffix(".weight") for name in names]
    unknown = [name for name in modules if any(not p.isdigit() and p not in order for p in name.split("."))]
    if unknown:
        raise InputError(f"The LoRA's order is not known for {unknown[0]}; its base is no VideoCrafter2 UNet.")
    return sorted(modules, key=lambda name: [int(p) if p.isdigit() else order[p] for p in name.split(".")])


def merge_turbo_lora(
    state_dict: Mapping[str, Tensor], lora: Sequence[Tensor], *, time_cond_proj: Tensor | None = None
) -> dict[str, Tensor]:
    """The base with T2V-Turbo's LoRA in its weights: W + up·down, without a scale (Li et al. 2024, released code).

    ``state_dict`` is in VideoCrafter2's layout, prefix optional; ``lora`` the flat list [up₀, down₀, up₁, …] over every
    linear, 2D and 3D convolution. VideoCrafter2 has no ``time_cond_proj``, which the LoRA changes and its file does not
    hold: ``time_cond_proj`` (width, 256) gives the base it is to have.

    Raises InputError without it, and where the list does not fit the base.
    """
    prefix = UNET_PREFIX if any(name.startswith(UNET_PREFIX) for name in state_dict) else ""
    base = with_guidance(part(state_dict, UNET_PREFIX), time_cond_proj)
    merged = {prefix + name: merge(base[name], *pair) for name, pair in lora_pairs(base, lora).items()}
    return {**state_dict, **merged}


def with_guidance(base: Mapping[str, Tensor], time_cond_proj: Tensor | None) -> dict[str, Tensor]:
    """``base`` (no prefix), with ``time_cond_proj.weight`` filled in where it lacks. Raises InputError if it cannot."""
    if "time_cond_proj.weight" in base:
        return dict(base)
    if time_cond_proj is None:
        raise InputError(
            "The base lacks time_cond_proj.weight, to which the LoRA only adds: it was random when the LoRA was "
            "trained and was not kept, so the result would take guidance at random. Use the merged checkpoint, or say "
            "what to fill in (zeros: guidance by the LoRA alone)."
        )
    return {**base, "time_cond_proj.weight": time_cond_proj}


def modelscope_lora_modules(unet: nn.Module) -> list[str]:
    """The modules that T2V-Turbo-MS's LoRA covers, in its order: that of diffusers' UNet."""
    layers = (nn.Linear, nn.Conv2d, nn.Conv3d)
    return [name for name, module in unet.named_modules() if isinstance(module, layers)]


def lora_pairs(base: Mapping[str, Tensor], lora: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each weight of ``base`` (no prefix) that the LoRA changes its (up, down). Raises InputError for a misfit."""
    weights = [name for name, value in base.items() if name.endswith(".weight") and value.ndim in (2, 4, 5)]
    return paired(base, lora_modules(weights), lora)


def paired(
    base: Mapping[str, Tensor], modules: Sequence[str], lora: Sequence[Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The flat list ``lora`` as pairs for the weights of ``modules``. Raises InputError where they do not fit."""
    if len(lora) != 2 * len(modules):
        raise InputError(f"The LoRA has {len(lora)} tensors and this base takes {2 * len(modules)}: it is of another.")
    pairs = {f"{module}.weight": pair for module, *pair in zip(modules, lora[::2], lora[1::2], strict=True)}
    for name, (up, down) in pairs.items():
        shape = base[name].shape
        if not (up.shape[0] == shape[0] and down.shape[1:] == shape[1:] and up.shape[1] == down.shape[0]):
            raise InputError(f"The LoRA does not fit {name} {tuple(shape)}: it is of another base.")
    return pairs


def merge(weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The weight with one pair of the LoRA in it, computed in float32."""
    change = (up.float().flatten(1) @ down.float().flatten(1)).reshape(weight.shape)
    return (weight.float() + change).to(weight.dtype)
