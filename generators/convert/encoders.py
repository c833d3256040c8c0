"""Autoencoder and text encoder of a latent diffusion checkpoint in diffusers' and transformers' classes."""

import re
from collections.abc import Mapping

from accelerate import init_empty_weights
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from generators.convert.state_dict import load_strictly, part
from videoduet.errors import InputError

VAE_PREFIX, TEXT_PREFIX = "first_stage_model.", "cond_stage_model.model."
TEXT_TOP = ("token_embedding.weight", "positional_embedding", "text_projection", "logit_scale", "attn_mask")
"""Outside the blocks; what comes after the final norm, and the causal mask, are not used."""
TEXT_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def ldm_vae(state_dict: Mapping[str, Tensor]) -> AutoencoderKL:
    """The autoencoder of latent diffusion (``first_stage_model.*``, prefix optional) in diffusers' class."""
    source = part(state_dict, VAE_PREFIX)
    try:
        widths = []
        while f"encoder.down.{len(widths)}.block.0.conv1.weight" in source:
            widths.append(source[f"encoder.down.{len(widths)}.block.0.conv1.weight"].shape[0])
        layers = 0
        while f"encoder.down.0.block.{layers}.conv1.weight" in source:
            layers += 1
        config = {
            "in_channels": source["encoder.conv_in.weight"].shape[1],
            "out_channels": source["decoder.conv_out.weight"].shape[0],
            "latent_channels": source["post_quant_conv.weight"].shape[1],
            "block_out_channels": tuple(widths),
            "layers_per_block": layers,
            "down_block_types": ("DownEncoderBlock2D",) * len(widths),
            "up_block_types": ("UpDecoderBlock2D",) * len(widths),
            "scaling_factor": 0.18215,
        }
    except KeyError as error:
        raise InputError(f"The autoencoder lacks {error.args[0]}; is the checkpoint whole?") from error
    converted = convert_ldm_vae_checkpoint(dict(source), config)
    if len(converted) != len(source):
        known = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
        unknown = [name for name in source if not name.startswith(known)] or ["tensors of another architecture"]
        raise InputError(f"The autoencoder has unknown {unknown[0]}; is this checkpoint of another family?")
    with init_empty_weights():
        vae = AutoencoderKL(**config)
    load_strictly(vae, converted, "autoencoder")
    return vae.eval()


def open_clip_text(state_dict: Mapping[str, Tensor], *, num_attention_heads: int | None = None) -> CLIPTextModel:
    """OpenCLIP's text tower (``cond_stage_model.model.*``, prefix optional) up to its penultimate block.

    All blocks but the last, then the final norm: what VideoCrafter2 conditions on is ``last_hidden_state``. Shapes do
    not tell the number of heads: OpenCLIP's are 64 wide, those of towers narrower than 512 are taken to be 32 wide.
    Inputs are padded with token 0 and not masked.
    """
    source = part(state_dict, TEXT_PREFIX)
    blocks = 1 + max(
        (int(name.split(".")[2]) for name in source if name.startswith("transformer.resblocks.")), default=-1
    )
    if blocks < 2 or "token_embedding.weight" not in source:
        raise InputError("The text encoder has no token_embedding and blocks; is this OpenCLIP's text tower?")
    vocabulary, width = source["token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=blocks - 1, hidden_act="gelu",
        intermediate_size=len(source["transformer.resblocks.0.mlp.c_fc.bias"]),
        num_attention_heads=num_attention_heads or width // (64 if width >= 512 else 32),
        max_position_embeddings=len(source["positional_embedding"]),
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=0,
    )  # fmt: skip
    with init_empty_weights():
        model = CLIPTextModel(config)
    # Older versions of transformers keep everything one module further down.
    prefix = "text_model." if "text_model.final_layer_norm.bias" in model.state_dict() else ""
    converted = {prefix + name: value for name, value in _text_weights(source, blocks - 1).items()}
    load_strictly(model, converted, "text encoder")
    return model.eval()


def _text_weights(source: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    converted = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
    }
    for name, value in source.items():
        if name.startswith("ln_final."):
            converted[f"final_layer_norm.{name.removeprefix('ln_final.')}"] = value
        match = re.match(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)$", name)
        if match is None:
            if name not in TEXT_TOP and not name.startswith("ln_final."):
                raise InputError(f"The text encoder has unknown {name}; is this OpenCLIP's text tower?")
            continue
        if int(match.group(1)) >= layers:
            continue
        layer, module, kind = f"encoder.layers.{match.group(1)}", match.group(2), match.group(3)
        if module == "attn.in_proj":
            for letter, third in zip("qkv", value.chunk(3), strict=True):
                converted[f"{layer}.self_attn.{letter}_proj.{kind}"] = third.contiguous()
        else:
            converted[f"{layer}.{TEXT_BLOCK.get(module, module)}.{kind}"] = value
    return converted
