"""Write a converted checkpoint as a diffusers directory, tensor by tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, LCMScheduler, SchedulerMixin
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTokenizer

from generators.convert.encoders import ldm_vae, open_clip_text
from generators.convert.lora import lora_pairs, merge, with_guidance
from generators.convert.motion import GUIDANCE, without_motion
from generators.convert.state_dict import part, read_checkpoint
from generators.convert.unet import FOLDED, UNET_PREFIX, as_diffusers, fold_fps, plan
from generators.families.t2v_turbo import T2VTurboPipeline
from generators.families.videocrafter2 import VideoCrafter2Pipeline
from videoduet.config import Precision
from videoduet.errors import InputError
from videoduet.loading import check_files, loading
from videoduet.progress import track
from videoduet.store import atomic_path, write_json

SHARD_BYTES = 2**30
"""Of a checkpoint's weights, what goes into one file and is in memory at a time."""
WEIGHTS = "diffusion_pytorch_model"
LATENT_SIZE = (40, 64)
"""Of 320x512 pixels, which VideoCrafter2 and its students were trained on."""


@dataclass(frozen=True)
class Source:
    """A UNet in VideoCrafter2's layout and what is to be done to it.

    ``lora`` is merged; ``fps`` folded in (None: its embedding is kept); ``time_cond_proj='zeros'`` fills in what
    VideoCrafter2 has not; ``guided=False`` wants a UNet that takes no guidance scale.
    """

    checkpoint: Path
    lora: Sequence[Tensor] | None = None
    fps: float | None = 16.0
    time_cond_proj: str | None = None
    motion_unused: bool = False
    guided: bool = True

    def read(self) -> dict[str, Tensor]:
        """The tensors, without prefix, mapped from the file. Raises InputError for those of another family."""
        tensors = without_motion(part(read_checkpoint(self.checkpoint), UNET_PREFIX), unused=self.motion_unused)
        if "time_embed.0.weight" not in tensors:
            raise InputError(f"{self.checkpoint} lacks time_embed.0.weight: it is no UNet of VideoCrafter2's kin.")
        if not self.guided:
            if GUIDANCE in tensors:
                raise InputError(f"{self.checkpoint} takes a guidance scale (it has {GUIDANCE}): it is a T2V-Turbo.")
            return tensors
        fill = None
        if self.time_cond_proj == "zeros":
            fill = torch.zeros(tensors["time_embed.0.weight"].shape[1], 256)
        return with_guidance(tensors, fill)


def _shards(sizes: Mapping[str, int]) -> list[list[str]]:
    """Names in order, cut where a file would grow beyond ``SHARD_BYTES``."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def write_unet(source: Source, output: Path, dtype: torch.dtype) -> None:
    """The UNet of ``source`` in diffusers' layout.

    Names and shapes are checked before anything is written. The checkpoint is mapped anew for each file, so that
    memory holds little more than one of them. Raises InputError for what does not fit.
    """
    base = source.read()
    unet, names = plan(base, fps=source.fps)
    changes = lora_pairs(base, source.lora) if source.lora is not None else {}
    bias = None
    if source.fps is not None:
        small = {name: _merged(base, changes, name) for name in base if name.startswith(("time_embed.", "fps_embed"))}
        bias = fold_fps(small, source.fps)
    sizes = {new: base[old].numel() * base[old].itemsize for new, old in names.items()}
    unet.register_to_config(sample_size=LATENT_SIZE)
    unet.save_config(output)
    del base

    def shard(new_names: Sequence[str]) -> dict[str, Tensor]:
        mapped = source.read()
        tensors = {
            new: as_diffusers(new, _merged(mapped, changes, names[new])).to(dtype).contiguous() for new in new_names
        }
        if bias is not None and FOLDED in tensors:
            tensors[FOLDED] = bias.to(dtype)
        return tensors

    write_shards(output, sizes, shard)


def write_shards(output: Path, sizes: Mapping[str, int], tensors: Callable[[Sequence[str]], dict[str, Tensor]]) -> None:
    """A model's weights as diffusers keeps large ones: files of about ``SHARD_BYTES`` (by ``sizes``, in bytes) and an
    index. ``tensors`` gives those that are asked for; no more than one file's are in memory.
    """
    shards, files = _shards(sizes), {}
    for index, shard in enumerate(track(shards, "writing the UNet"), 1):
        file = f"{WEIGHTS}-{index:05d}-of-{len(shards):05d}.safetensors"
        save_file(tensors(shard), output / file, metadata={"format": "pt"})
        files |= dict.fromkeys(shard, file)
    size = sum((output / file).stat().st_size for file in set(files.values()))
    write_json(output / f"{WEIGHTS}.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": files})


def _merged(base: Mapping[str, Tensor], changes: Mapping[str, tuple[Tensor, Tensor]], name: str) -> Tensor:
    return merge(base[name], *changes[name]) if name in changes else base[name]


def write_directory(
    output: Path, *, checkpoint: Path, source: Source, tokenizer: str, dtype: Precision, index: dict[str, Any],
    scheduler: SchedulerMixin,
) -> None:  # fmt: skip
    """A pipeline's directory: autoencoder and text encoder from ``checkpoint`` (VideoCrafter2's ``model.ckpt`` layout),
    the UNet from ``source``, ``tokenizer`` from a directory or hub id of CLIP's; ``index`` is its ``model_index.json``.

    The directory appears when it is whole. Raises InputError for files that do not fit.
    """
    mend = "give a directory with CLIP's vocabulary (vocab.json and merges.txt, or tokenizer.json)."
    check_files(tokenizer)
    with loading(f"Tokenizer {tokenizer} cannot be loaded", mend):
        words = CLIPTokenizer.from_pretrained(tokenizer, pad_token="!")
        if len(words) <= len(words.all_special_ids):
            raise ValueError(f"its {type(words).__name__} has no words")
    precision = getattr(torch, dtype)
    with atomic_path(output) as temporary:
        (temporary / "unet").mkdir(parents=True)
        # First what is most likely to be refused.
        write_unet(source, temporary / "unet", precision)
        ldm_vae(read_checkpoint(checkpoint)).to(precision).save_pretrained(temporary / "vae")
        text_encoder = open_clip_text(read_checkpoint(checkpoint))
        if len(words) > text_encoder.config.vocab_size:
            known = text_encoder.config.vocab_size
            raise InputError(f"Tokenizer {tokenizer} has {len(words)} words and the text encoder knows {known}.")
        if words.pad_token_id != 0:
            raise InputError(f"Tokenizer {tokenizer} has '!' as token {words.pad_token_id}, CLIP has it as token 0.")
        words.model_max_length = text_encoder.config.max_position_embeddings
        text_encoder.to(precision).save_pretrained(temporary / "text_encoder")
        words.save_pretrained(temporary / "tokenizer")
        scheduler.save_pretrained(temporary / "scheduler")
        write_json(temporary / "model_index.json", index)


def model_index(pipeline: type, scheduler: str, *, keep_fps: bool = False, **config: Any) -> dict[str, Any]:
    """What tells diffusers how to put ``pipeline`` together."""
    unet = ["generators.fps_unet", "FpsUNet3DConditionModel"] if keep_fps else ["diffusers", "UNet3DConditionModel"]
    return {
        "_class_name": pipeline.__name__,
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": unet,
        "vae": ["diffusers", "AutoencoderKL"],
        **config,
    }


def write_turbo_directory(
    checkpoint: Path, output: Path, tokenizer: str, *, unet: Path | None = None, lora: Path | None = None,
    fps: float = 16.0, keep_fps: bool = False, original_steps: int = 50, dtype: Precision = "float32",
    time_cond_proj: Literal["zeros"] | None = None, motion_unused: bool = False,
) -> None:  # fmt: skip
    """T2V-Turbo on VideoCrafter2 (v1 and v2) as the directory of a :class:`generators.T2VTurboPipeline`.

    The UNet is ``checkpoint``'s, or that of the file ``unet``, with ``lora`` merged if given. ``fps`` is what the
    student was trained on: it is folded in, or with ``keep_fps`` the default of an input. ``original_steps`` is the
    grid that the student was distilled on: 50 for v1, 200 for v2.
    """
    pairs = None if lora is None else read_lora(lora)
    write_directory(
        output, checkpoint=checkpoint, tokenizer=tokenizer, dtype=dtype,
        source=Source(unet or checkpoint, pairs, None if keep_fps else fps, time_cond_proj, motion_unused),
        scheduler=LCMScheduler(original_inference_steps=original_steps),
        index=model_index(T2VTurboPipeline, "LCMScheduler", keep_fps=keep_fps, fps=fps),
    )  # fmt: skip


def write_videocrafter2_directory(
    checkpoint: Path, output: Path, tokenizer: str, *, fps: float = 28.0, dtype: Precision = "float32"
) -> None:
    """VideoCrafter2 as the directory of a :class:`generators.VideoCrafter2Pipeline`, with its own DDIM schedule."""
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    write_directory(
        output, checkpoint=checkpoint, tokenizer=tokenizer, dtype=dtype, scheduler=scheduler,
        source=Source(checkpoint, fps=fps, guided=False),
        index=model_index(VideoCrafter2Pipeline, "DDIMScheduler", scale_b=0.7),
    )  # fmt: skip


def read_lora(path: Path) -> list[Tensor]:
    """A LoRA file: a flat list of tensors. Raises InputError where it is something else."""
    content = read_checkpoint(path)
    if not isinstance(content, list) or not all(isinstance(tensor, Tensor) for tensor in content):
        raise InputError(f"{path} is no T2V-Turbo LoRA, which is a flat list of tensors.")
    return content
