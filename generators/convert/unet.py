"""VideoCrafter2's and T2V-Turbo's UNet in diffusers' class."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor

from generators.convert.state_dict import check, load_strictly, part
from generators.fps_unet import FpsUNet3DConditionModel, fps_sinusoid
from videoduet.errors import InputError

UNET_PREFIX = "model.diffusion_model."
FPS_EMBEDDING, FOLDED = "time_embedding.fps_embedding.", "time_embedding.linear_2.bias"
INITIAL_HEADS = 8
"""Heads of the temporal attention that comes before the first level, whatever its width."""
TOP_LEVEL = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "fps_embedding.0": "time_embedding.fps_embedding.linear_1",
    "fps_embedding.2": "time_embedding.fps_embedding.linear_2",
    "time_cond_proj": "time_embedding.cond_proj",
    "input_blocks.0.0": "conv_in",
    "init_attn.0": "transformer_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def vc2_unet(state_dict: Mapping[str, Tensor], *, fps: float | None) -> UNet3DConditionModel:
    """VideoCrafter2's or T2V-Turbo's UNet (``model.diffusion_model.*``, prefix optional) in diffusers' class.

    With ``fps`` the embedding of that frame rate is folded into ``time_embedding.linear_2.bias``, which is exact. With
    None it is kept, in a :class:`FpsUNet3DConditionModel`. Raises InputError for what is no such UNet.
    """
    source = part(state_dict, UNET_PREFIX)
    unet, names = plan(source, fps=fps)
    converted = {new: as_diffusers(new, source[old]) for new, old in names.items()}
    if fps is not None:
        converted[FOLDED] = fold_fps(source, fps)
    load_strictly(unet, converted, "UNet")
    return unet.eval()


def plan(source: Mapping[str, Tensor], *, fps: float | None) -> tuple[UNet3DConditionModel, dict[str, str]]:
    """The model without weights that ``source`` (no prefix) is, and for each of its tensors the name in ``source``.

    Looks at names and shapes alone, and raises InputError where they do not fit.
    """
    blocks = _Blocks(source)
    names = {blocks.diffusers_name(old): old for old in source}
    if fps is not None:
        names = {new: old for new, old in names.items() if not new.startswith(FPS_EMBEDDING)}
    with init_empty_weights():
        unet = (UNet3DConditionModel if fps is not None else FpsUNet3DConditionModel)(**blocks.config)
    check(unet, {new: as_diffusers(new, source[old]).shape for new, old in names.items()}, "UNet")
    return unet, names


def as_diffusers(new: str, value: Tensor) -> Tensor:
    """The tensor as diffusers has it: convolutions over time alone with kernel 1 are linear layers there."""
    return value.squeeze(-1) if new.startswith("transformer_in.proj_") and value.ndim == 3 else value


def fold_fps(source: Mapping[str, Tensor], fps: float) -> Tensor:
    """The bias of the time embedding with the embedding of ``fps`` in it."""
    weights = {TOP_LEVEL[f"fps_embedding.{i}"].removeprefix(FPS_EMBEDDING): f"fps_embedding.{i}" for i in (0, 2)}
    weights = {f"{new}.{kind}": f"{old}.{kind}" for new, old in weights.items() for kind in ("weight", "bias")}
    if not source.keys() >= set(weights.values()):
        raise InputError(f"The UNet has no fps_embedding, so it cannot be made for {fps:g} fps; is it VideoCrafter2's?")
    bias, width = source["time_embed.2.bias"], source["time_embed.0.weight"].shape[1]
    embedding = TimestepEmbedding(width, len(bias))
    load_strictly(embedding, {new: source[old].float() for new, old in weights.items()}, "fps embedding")
    with torch.no_grad():
        return (bias.float() + embedding(fps_sinusoid(torch.tensor([fps]), width))[0]).to(bias.dtype)


class _Blocks:
    """Where the blocks of an lvdm UNet lie in diffusers' class, read from its names and shapes."""

    def __init__(self, source: Mapping[str, Tensor]):
        self.source = source
        self.places: dict[str, str] = {}
        try:
            widths, attention, layers = self._down()
            self._up(layers)
            self.config = self._config(widths, attention, layers)
        except KeyError as error:
            raise InputError(
                f"The UNet lacks {error.args[0]}; give a VideoCrafter2 or T2V-Turbo checkpoint that is whole."
            ) from error

    def _numbers(self, pattern: str) -> list[int]:
        found = (re.match(pattern, name) for name in self.source)
        return sorted({int(match.group(1)) for match in found if match})

    def _has(self, module: str) -> bool:
        return f"{module}.weight" in self.source

    def _down(self) -> tuple[list[int], list[bool], int]:
        widths: list[int] = []
        attention: list[bool] = []
        resnet, layers = 0, [0]
        for index in self._numbers(r"input_blocks\.(\d+)\.")[1:]:
            block = f"input_blocks.{index}"
            level = len(layers) - 1
            # lvdm counts blocks on; here a level ends with the one that halves the size.
            if self._has(f"{block}.0.op"):
                self.places[f"{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
                layers.append(0)
                resnet = 0
                continue
            # All layers of a level are as wide, and attend or not, as its first.
            if resnet == 0:
                widths.append(self.source[f"{block}.0.out_layers.3.weight"].shape[0])
                attention.append(self._has(f"{block}.1.proj_in"))
            self._place(block, f"down_blocks.{level}", resnet)
            resnet += 1
            layers[-1] = resnet
        for position, resnet in ((0, 0), (3, 1)):
            self._place_resnet(f"middle_block.{position}", "mid_block", resnet)
        self.places["middle_block.1"] = "mid_block.attentions.0"
        self.places["middle_block.2"] = "mid_block.temp_attentions.0"
        if not widths:
            raise KeyError("input_blocks.1.0.out_layers.3.weight")
        return widths, attention, layers[0]

    def _up(self, layers: int) -> None:
        for index in self._numbers(r"output_blocks\.(\d+)\."):
            # On the way up a level has a layer more, for what was kept before its downsampling.
            level, resnet = divmod(index, layers + 1)
            self._place(f"output_blocks.{index}", f"up_blocks.{level}", resnet)
            for position in (1, 3):
                if self._has(f"output_blocks.{index}.{position}.conv"):
                    self.places[f"output_blocks.{index}.{position}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"

    def _place(self, block: str, target: str, resnet: int) -> None:
        self._place_resnet(f"{block}.0", target, resnet)
        if self._has(f"{block}.1.proj_in"):
            self.places[f"{block}.1"] = f"{target}.attentions.{resnet}"
            self.places[f"{block}.2"] = f"{target}.temp_attentions.{resnet}"

    def _place_resnet(self, block: str, target: str, resnet: int) -> None:
        for old, new in RESNET.items():
            self.places[f"{block}.{old}"] = f"{target}.resnets.{resnet}.{new}"
        # The misspelling is upstream's.
        self.places[f"{block}.temopral_conv"] = f"{target}.temp_convs.{resnet}"

    def _config(self, widths: list[int], attention: list[bool], layers: int) -> dict[str, Any]:
        block = f"input_blocks.{1 + attention.index(True) * (layers + 1) if True in attention else 1}"
        guidance = self.source.get("time_cond_proj.weight")
        return {
            "in_channels": self.source["input_blocks.0.0.weight"].shape[1],
            "out_channels": self.source["out.2.weight"].shape[0],
            "block_out_channels": tuple(widths),
            "layers_per_block": layers,
            "down_block_types": tuple("CrossAttnDownBlock3D" if here else "DownBlock3D" for here in attention),
            "up_block_types": tuple("CrossAttnUpBlock3D" if here else "UpBlock3D" for here in reversed(attention)),
            "cross_attention_dim": self.source[f"{block}.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
            "attention_head_dim": self.source["init_attn.0.proj_in.weight"].shape[0] // INITIAL_HEADS,
            "time_cond_proj_dim": None if guidance is None else guidance.shape[1],
        }

    def diffusers_name(self, name: str) -> str:
        """The name in diffusers; a name that has no place there is kept, and refused on loading."""
        parts = name.split(".")
        # The longest known module wins: what comes after it is called the same in both.
        for length in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:length])
            place = TOP_LEVEL.get(module) or self.places.get(module)
            if place is not None:
                return ".".join([place, *parts[length:]])
        return name
