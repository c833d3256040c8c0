"""InternVL as OpenGVLab releases it (``InternVLChatModel``, code of its own) against transformers' names and config.

Each of transformers' tensors is a part of one released tensor: whole, a third of the vision tower's ``qkv``, or the
rows of InternLM2's ``wqkv`` that belong to it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import CONFIG_MAPPING, InternVLConfig

from videoduet.errors import InputError

_VISION = (
    (r"embeddings\.cls_token", "embeddings.class_embedding"),
    (r"embeddings\.position_embeddings", "embeddings.position_embedding"),
    (r"embeddings\.patch_embeddings\.projection\.", "embeddings.patch_embedding."),
    (r"encoder\.layer\.", "encoder.layers."),
    (r"attention\.([qk]_norm)\.", r"attn.\1."),
    (r"attention\.projection_layer\.", "attn.proj."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"lambda_(\d)$", r"ls\1"),
)
_PROJECTOR = {"layer_norm": "mlp1.0", "linear_1": "mlp1.1", "linear_2": "mlp1.3"}
_INTERNLM2 = (
    (r"embed_tokens\.", "tok_embeddings."),
    (r"self_attn\.o_proj\.", "attention.wo."),
    (r"mlp\.gate_proj\.", "feed_forward.w1."),
    (r"mlp\.down_proj\.", "feed_forward.w2."),
    (r"mlp\.up_proj\.", "feed_forward.w3."),
    (r"input_layernorm\.", "attention_norm."),
    (r"post_attention_layernorm\.", "ffn_norm."),
)
_SPLIT = re.compile(r"^(.*)\.([qkv])_proj\.(weight|bias)$")
_LANGUAGES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama", "internlm2": "llama"}
"""Language models in releases, and what transformers calls them."""
_FORGOTTEN = (
    "auto_map",
    "torch_dtype",
    "transformers_version",
    "attn_implementation",
    "_name_or_path",
    "architectures",
)


@dataclass(frozen=True)
class Piece:
    """Where one of transformers' tensors is in a release: the tensor's ``name``; ``part`` of ``parts`` equal blocks of
    its rows, or, in every group of ``queries`` + 2 heads of ``head`` rows, the queries (``part`` 0), key or value.
    """

    name: str
    part: int = 0
    parts: int = 1
    queries: int = 0
    head: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """The rows that belong to it, contiguous."""
        if self.queries:
            groups = tensor.unflatten(0, (-1, self.queries + 2, self.head))
            rows = groups[:, : self.queries] if self.part == 0 else groups[:, self.queries + self.part - 1, None]
            return rows.flatten(0, 2).contiguous()
        return tensor.chunk(self.parts)[self.part].contiguous() if self.parts > 1 else tensor

    def shape(self, given: list[int]) -> tuple[int, ...]:
        """The shape of those rows of a released tensor of the ``given`` one."""
        rows, *rest = given or [0]
        if self.queries:
            groups = rows // ((self.queries + 2) * self.head)
            return (groups * self.head * (self.queries if self.part == 0 else 1), *rest)
        return (rows // self.parts, *rest) if given else ()


def native_config(released: Mapping[str, Any], *, tied: bool) -> InternVLConfig:
    """The config of transformers' model from a release's ``config.json``; ``tied`` says that words go in and out by the
    same table. Raises InputError for another family's.
    """
    vision, text = released.get("vision_config"), dict(released.get("llm_config") or {})
    if released.get("model_type") != "internvl_chat" or not vision or not text:
        raise InputError(
            f"config.json is of a {released.get('model_type')}, not of OpenGVLab's internvl_chat with vision_config "
            "and llm_config; a checkpoint in transformers' layout (-hf) needs no conversion."
        )
    language, version = text.pop("model_type", None), released.get("ps_version")
    if language not in _LANGUAGES:
        raise InputError(f"The language model is a {language}; InternVL with one of {', '.join(_LANGUAGES)} is known.")
    if version != "v2":
        raise InputError(f"ps_version is {version}; transformers shuffles pixels as v2 does, and no other can be had.")
    return InternVLConfig(
        vision_config={
            **{name: vision[name] for name in (
                "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
                "image_size", "layer_norm_eps", "norm_type", "hidden_act",
            ) if name in vision},
            "attention_bias": vision.get("qkv_bias", True),
            "use_qk_norm": vision.get("qk_normalization", False),
            # Else transformers would add a norm that no release has.
            "use_mean_pooling": True,
        },
        text_config=_text_config(_LANGUAGES[language], text),
        downsample_ratio=released.get("downsample_ratio", 0.5),
        image_seq_length=image_tokens(released),
        vision_feature_layer=released.get("select_layer", -1),
        tie_word_embeddings=tied,
    )  # fmt: skip


def _text_config(kind: str, released: Mapping[str, Any]) -> Any:
    fields = {name: value for name, value in released.items() if name not in _FORGOTTEN}
    if kind == "llama" and "attention_bias" not in fields:
        # InternLM2's name of it.
        fields["attention_bias"] = bool(fields.pop("bias", False))
    return CONFIG_MAPPING[kind](**fields)


def image_tokens(released: Mapping[str, Any]) -> int:
    """Vision tokens of an image of the size that the release was trained on."""
    side = image_side(released) // released["vision_config"]["patch_size"]
    return int(side * released.get("downsample_ratio", 0.5)) ** 2


def image_side(released: Mapping[str, Any]) -> int:
    """The side of an image in pixels, as the release shows it."""
    return int(released.get("force_image_size") or released["vision_config"]["image_size"])


def piece_of(name: str, config: InternVLConfig, internlm2: bool) -> Piece:
    """Where the release keeps transformers' tensor ``name``."""
    if name == "lm_head.weight":
        return Piece("language_model.output.weight" if internlm2 else "language_model.lm_head.weight")
    part, _, rest = name.removeprefix("model.").partition(".")
    if part == "multi_modal_projector":
        module, _, kind = rest.partition(".")
        return Piece(f"{_PROJECTOR[module]}.{kind}")
    split = _SPLIT.match(rest)
    if part == "vision_tower":
        if split:
            layer = split[1].removesuffix(".attention").replace("encoder.layer.", "encoder.layers.")
            return Piece(f"vision_model.{layer}.attn.qkv.{split[3]}", "qkv".index(split[2]), 3)
        return Piece(f"vision_model.{_renamed(rest, _VISION)}")
    if not internlm2:
        return Piece(f"language_model.model.{rest}")
    if split:
        text = config.get_text_config()
        queries, head = (
            text.num_attention_heads // text.num_key_value_heads,
            text.hidden_size // text.num_attention_heads,
        )
        layer = split[1].removesuffix(".self_attn")
        return Piece(f"language_model.model.{layer}.attention.wqkv.{split[3]}", "qkv".index(split[2]), 1, queries, head)
    return Piece(f"language_model.model.{_renamed(rest, _INTERNLM2)}")


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
