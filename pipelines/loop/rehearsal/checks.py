"""What can be seen without drawing anything: directories, prompts, environments, GPUs that a recipe asks for."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from evaluation.vbench.environment import tier_for
from pipelines.loop.config import RunConfig
from pipelines.loop.plan import PROBED, counted
from pipelines.loop.rates import generator_size
from videoduet.config import resolve
from videoduet.errors import InputError


def existing(path: Path) -> Path:
    """``path``, or the nearest directory above it that is there."""
    path = path.absolute()
    return path if path.is_dir() else existing(path.parent)


def directories(config: RunConfig) -> Iterator[str]:
    """A sentence where the run directory could not be written."""
    path = existing(Path(config.run_dir))
    wanted = Path(config.run_dir).absolute()
    for above in (wanted, *wanted.parents):
        if above.exists() and not above.is_dir():
            yield f"{above}, where {config.run_dir} would lie, is a file; choose another --run_dir."
    if not os.access(path, os.W_OK):
        yield f"{path}, where {config.run_dir} would lie, cannot be written to; choose another --run_dir."


def gpus(config: RunConfig) -> Iterator[str]:
    """A sentence for each thing that asks for more GPUs than there are here."""
    found = torch.cuda.device_count()
    if not found:
        half = {"generator.dtype": config.generator.dtype, "judge.dtype": config.judge.dtype}
        # A toy may be run in any precision; a model of real size may not be drawn with on a CPU.
        folder = Path(resolve(config.generator.path))
        large = not folder.is_dir() or sum(file.stat().st_size for file in folder.rglob("*.safetensors")) > PROBED
        if large and (known := generator_size(config.generator.path)):
            yield (
                f"generator.path {config.generator.path} has {known.weights[0]} billion weights, which need a GPU; "
                "there is none here: run it where one is."
            )
        for name, value in half.items():
            if value != "float32":
                yield f"{name} is {value}, which is made for a GPU, and there is none here; run it where one is."
    for phase, file in config.launch.items():
        try:
            settings = yaml.safe_load(Path(resolve(file)).read_text(encoding="utf-8"))
            asked, on_cpu = int(settings.get("num_processes", 1)), settings.get("use_cpu", False)
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            yield f"launch.{phase} {file} cannot be read ({error}); give an accelerate config."
            continue
        machines = int(settings.get("num_machines") or 1)
        if not on_cpu and asked // machines > found:
            asked //= machines
            yield f"launch.{phase} {file} asks for {asked} GPUs here, and there are {found}; lower num_processes."


def environments(config: RunConfig) -> Iterator[str]:
    """A sentence for each VBench dimension that could not be scored."""
    for name in config.score.vbench.names:
        tier, reason = tier_for(name)
        if tier is None:
            yield f"{name} would not be scored: {reason}."


def space(config: RunConfig, video: float, prompts: int, held_out: int, free: int) -> str | None:
    """A sentence where all videos, each of ``video`` bytes with its latents, would not fit on the disk."""
    parts = counted(config, prompts, held_out)
    needed = video * (parts["videos of rounds"] + parts["videos of score"] + parts["videos of VBench"])
    if needed <= free:
        return None
    return (
        f"The run needs {needed / 1e9:.1f} GB for videos and latents, and {existing(Path(config.run_dir))} has "
        f"{free / 1e9:.1f} GB left; make room, or choose another --run_dir."
    )


def mended(where: str, error: BaseException) -> str:
    """What went wrong in ``where``, with its mend."""
    words = " ".join(str(error).split())
    if isinstance(error, InputError):
        return f"{where}: {words}"
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if memory or "out of memory" in words.lower() or "allocate memory" in words.lower():
        knobs = {
            "align": "set align.gradient_checkpointing true, align.micro_batch 1, or lower align.lora_rank",
            "rank": "lower judge.batch_size, or give judge.dtype bfloat16",
            "refresh": "lower refresh.training.micro_batch",
        }
        phase = where.rpartition("/")[2]
        mend = knobs.get(phase, "lower generator.batch_size, or give generator.dtype bfloat16")
        return f"{where}: memory ran out; {mend}."
    return f"{where}: {type(error).__name__}: {words[:400]}; this is no mistake that is known: please report it."
