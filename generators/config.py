"""What can be set about drawing videos for a file of prompts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

from videoduet.config import Precision, at_least, execution, identity, required
from videoduet.errors import InputError
from videoduet.records import SamplerSettings
from videoduet.video import Format

Speed = Literal["auto", "eager", "compiled"]
"""How a generator computes while it draws: as its libraries have it, or in forms that are faster and round otherwise;
auto is eager on a CPU, and on a GPU compiled for 3D UNets, which is a matter of seconds.
"""

LoraFormat = Literal["diffusers", "comfyui", "peft", "merged"]
"""The forms in which a LoRA is written for others."""

FULL = 0.5
"""Share of a GPU's memory that a pipeline's models take, from which on its text encoders wait beside it."""

FASTEST = 1000.0
"""Frames per second that a file can still tell apart."""


def check_sampler(sampler: Mapping[str, Any]) -> None:
    """Raises InputError for a name that is no field of :class:`videoduet.records.SamplerSettings`, and for a value with
    which no video can be drawn and written. What a family can draw of the rest, it says itself.
    """
    if cast(object, sampler) is None:
        raise InputError("sampler is empty; give its settings, or leave it out.", exit_code=2)
    kinds = {item.name: item.type for item in fields(SamplerSettings)}
    for name, value in sampler.items():
        if name not in kinds:
            raise InputError(f"The sampler has no setting {name!r}; it has {', '.join(kinds)}.", exit_code=2)
        is_whole = kinds[name] in (int, "int")
        known = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
        if not known or not math.isfinite(value):
            kind = "a whole number" if is_whole else "a number"
            raise InputError(f"sampler.{name} is {value!r}; give {kind}.", exit_code=2)
        if is_whole:
            at_least(1, **{f"sampler.{name}": value})
        elif name == "fps" and not 0 < value <= FASTEST:
            raise InputError(f"sampler.fps is {value}; give more than 0, at most {FASTEST:g}.", exit_code=2)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Draw videos for a set of prompts, with what is needed to learn from them. The same command resumes.

    Attributes:
        generator: diffusers directory or hub id of a text-to-video model.
        prompts: Text file with one prompt a line, or a JSON, CSV, TSV or parquet file with a column of them: VidProM's
            files and VBench's VBench_full_info.json are read as they are.
        output: Where videos, final latents and records are kept.
        adapter: A LoRA in PEFT's format to put in force.
        videos_per_prompt: Videos of each prompt.
        seed: Each video's noise depends on this, its prompt and its index alone.
        batch_size: Videos drawn at once, across prompts.
        sampler: Overrides of the family's settings: steps, guidance_scale, fps, num_frames, height, width.
        format: Beside the mp4 of each video, what can be pasted into a page: gif, webp, or frames, a folder of PNG
            images (mp4: nothing more).
        dtype: Precision of the weights.
        speed: eager computes as the libraries have it, compiled in faster forms that round otherwise, after a slower
            start; auto is compiled for 3D UNets on a GPU, else eager.
        column: The column of prompts, where it is not called prompt, prompt_en, text or caption.
        nsfw_below: Of VidProM's files only prompts are drawn whose six probabilities of being unsafe are all below it.
        limit: Draw that many prompts (None: all): the first ones, or those that subset_seed draws.
        subset_seed: Seed of the random subset of ``limit`` prompts (None: the first ones).
    """

    generator: str = identity("")
    prompts: str = identity("")
    output: str = execution("")
    adapter: str | None = identity(None)
    videos_per_prompt: int = identity(1)
    seed: int = identity(0)
    batch_size: int = identity(8)
    sampler: dict[str, Any] = identity(factory=dict)
    format: Format = execution("mp4")
    dtype: Precision = identity("float32")
    speed: Speed = identity("auto")
    column: str | None = identity(None)
    nsfw_below: float = identity(0.2)
    limit: int | None = identity(None)
    subset_seed: int | None = identity(None)

    def __post_init__(self) -> None:
        required(self, "generator", "prompts", "output")
        check_sampler(self.sampler)
        at_least(1, videos_per_prompt=self.videos_per_prompt, batch_size=self.batch_size, limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a LoRA of a generator in the form that other tools load.

    Attributes:
        adapter: The LoRA, a PEFT directory, such as final/generator of a run.
        generator: diffusers directory or hub id of the generator it belongs to (None: the one that the adapter names).
        format: diffusers, comfyui, peft, or merged for a whole generator with the LoRA in its weights.
        output: The directory to write.
        dtype: Precision of what is written (merging itself is in float32).
        push_to_hub: OWNER/NAME on the Hugging Face hub under which it is published as well (None: it is not).
        public: Whether a new repository there is for everybody to see.
    """

    adapter: str = identity("")
    generator: str | None = identity(None)
    format: LoraFormat = identity("diffusers")
    output: str = execution("")
    dtype: Precision = identity("float32")
    push_to_hub: str | None = execution(None)
    public: bool = execution(False)

    def __post_init__(self) -> None:
        required(self, "adapter", "output")
