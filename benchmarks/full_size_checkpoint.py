"""Convert checkpoints of full size: ``python -m benchmarks.full_size_checkpoint --output DIR [--sample]``.

Writes a synthetic ``model.ckpt`` of VideoCrafter2 (7.4 GB, random weights under the released names and shapes) and a
``unet_lora.pt`` of T2V-Turbo, converts them by the command a user would type, with its time and peak memory, loads the
directory and, with ``--sample``, draws one video of 16x320x512.
"""

import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from jsonargparse import CLI
from torch import Tensor

from benchmarks.turbo_models import TEXT, VAE
from generators.convert.encoders import TEXT_PREFIX, VAE_PREFIX
from generators.convert.lora import lora_modules
from generators.convert.unet import RESNET, TOP_LEVEL, UNET_PREFIX
from generators.loading import load_generator
from shapes_world.tokenizers import clip_tokenizer
from videoduet.progress import console

RNG = torch.Generator().manual_seed(0)
INSIDE = {"attentions": "1", "temp_attentions": "2"}
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "temp_attentions.0": "2", "resnets.1": "3"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def released_unet_name(name: str) -> str:
    """The name that VideoCrafter2's checkpoint has for a weight of ``UNet3DConditionModel`` of its full size."""
    for old, new in TOP_LEVEL.items():
        if name.startswith(f"{new}."):
            return old + name.removeprefix(new)
    if match := re.match(r"mid_block\.(temp_convs\.(\d)|\w+\.\d)\.(.+)", name):
        if match[2]:
            return f"middle_block.{3 * int(match[2])}.temopral_conv.{match[3]}"
        return _inside(f"middle_block.{MIDDLE[match[1]]}", match[3])
    kind, level, layers, index, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name).groups()
    level, index = int(level), int(index)
    if layers == "downsamplers":
        return f"input_blocks.{3 * (level + 1)}.0.op.{rest.removeprefix('conv.')}"
    if layers == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 3}.{rest}"
    block = f"input_blocks.{1 + 3 * level + index}" if kind == "down" else f"output_blocks.{3 * level + index}"
    if layers == "temp_convs":
        return f"{block}.0.temopral_conv.{rest}"
    return _inside(f"{block}.{INSIDE.get(layers, '0')}", rest)


def _inside(block: str, rest: str) -> str:
    names = {new: old for old, new in RESNET.items()}
    module, _, kind = rest.rpartition(".")
    return f"{block}.{names.get(module, module)}.{kind}"


def released_vae_name(name: str) -> str:
    """The name that a latent diffusion checkpoint has for a weight of ``AutoencoderKL``."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        head, tail = name.split("mid_block.attentions.0.")
        module, _, kind = tail.rpartition(".")
        return f"{head}mid.attn_1.{ATTENTION[module]}.{kind}"
    return name


def _weight(*shape: int) -> Tensor:
    if len(shape) < 2:
        return torch.ones(shape)
    fan_in = torch.Size(shape[1:]).numel()
    return torch.empty(shape).normal_(0, fan_in**-0.5, generator=RNG)


def unet_weights() -> dict[str, Tensor]:
    """VideoCrafter2's UNet: 1484 tensors, without an embedding of the guidance scale."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in UNet3DConditionModel().state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        # Stock linear layers that are convolutions over time with kernel 1 in the released file.
        shape = (*shape, 1) if re.match(r"transformer_in\.proj_\w+\.weight", name) else shape
        weights[UNET_PREFIX + released_unet_name(name)] = _weight(*shape)
    width = 4 * 320
    for layer, inside in (("0", 320), ("2", width)):
        weights[f"{UNET_PREFIX}fps_embedding.{layer}.weight"] = _weight(width, inside)
        weights[f"{UNET_PREFIX}fps_embedding.{layer}.bias"] = _weight(width)
    return weights


def vae_weights() -> dict[str, Tensor]:
    """An autoencoder's weights in the layout of the released checkpoints, random."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in AutoencoderKL(**VAE).state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        new = released_vae_name(name)
        if ".attn_1." in new and new.endswith("weight") and len(shape) == 2:
            shape = (*shape, 1, 1)
        weights[VAE_PREFIX + new] = _weight(*shape)
    return weights


def text_weights() -> dict[str, Tensor]:
    """OpenCLIP's ViT-H/14 text tower, with the last block that nobody uses."""
    width, inner = TEXT["hidden_size"], TEXT["intermediate_size"]
    shapes = {
        "token_embedding.weight": (TEXT["vocab_size"], width), "positional_embedding": (77, width),
        "ln_final.weight": (width,), "ln_final.bias": (width,), "text_projection": (width, width), "logit_scale": (),
    }  # fmt: skip
    for layer in range(TEXT["num_hidden_layers"] + 1):
        block = f"transformer.resblocks.{layer}"
        for name, out, inside in (
            ("attn.out_proj", width, width),
            ("mlp.c_fc", inner, width),
            ("mlp.c_proj", width, inner),
        ):
            shapes |= {f"{block}.{name}.weight": (out, inside), f"{block}.{name}.bias": (out,)}
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{block}.{norm}.{kind}": (width,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return {TEXT_PREFIX + name: _weight(*shape) for name, shape in shapes.items()}


def write_released(folder: Path) -> None:
    """``model.ckpt``, ``unet_lora.pt`` and ``tokenizer/`` in ``folder``."""
    weights = unet_weights()
    bare = {name.removeprefix(UNET_PREFIX): value for name, value in weights.items()}
    bare["time_cond_proj.weight"] = torch.empty(320, 256)
    lora = []
    for module in lora_modules(
        [name for name, value in bare.items() if name.endswith("weight") and value.ndim in (2, 4, 5)]
    ):
        out, inside, *kernel = bare[f"{module}.weight"].shape
        rank = min(64, out, inside)
        lora += [0.01 * _weight(out, rank, *[1] * len(kernel)), 0.01 * _weight(rank, inside, *kernel)]
    torch.save(lora, folder / "unet_lora.pt")
    schedule = {name: torch.zeros(1000) for name in ("betas", "alphas_cumprod")} | {"scale_arr": torch.zeros(1400)}
    torch.save({"state_dict": weights | vae_weights() | text_weights() | schedule}, folder / "model.ckpt")
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    tokenizer.save_pretrained(folder / "tokenizer")


def main(output: Path, sample: bool = False) -> None:
    """Write, convert, load.

    Args:
        output: A directory with 16 GB of room; what is in it is kept and used again, the converted directory is not.
        sample: Also draw one video on the CPU, which takes many minutes.
    """
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "model.ckpt").exists():
        write_released(output)
    target = output / "t2v_turbo"
    shutil.rmtree(target, ignore_errors=True)
    command = [
        "t2v_turbo",
        "--checkpoint",
        output / "model.ckpt",
        "--lora",
        output / "unet_lora.pt",
        "--output",
        target,
    ]
    command += ["--tokenizer", output / "tokenizer", "--time_cond_proj", "zeros"]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipelines.convert_generator", *map(str, command)], check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    written = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    console.print(f"checkpoint {(output / 'model.ckpt').stat().st_size / 1e9:.2f} GB, directory {written / 1e9:.2f} GB")
    console.print(f"converted in {seconds:.0f} s, peak {peak / 1e9:.2f} GB, {peak / written:.2f} x the directory")
    started = time.perf_counter()
    generator = load_generator(target)
    console.print(f"loaded in {time.perf_counter() - started:.0f} s: {generator.settings}")
    if sample:
        started = time.perf_counter()
        frames = generator.decode(generator.sample(generator.encode_prompts(["a red circle moving left"]), [0]))
        console.print(f"sampled {tuple(frames.shape)} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    CLI(main, as_positional=False)
