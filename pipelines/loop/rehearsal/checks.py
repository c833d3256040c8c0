"""What can be seen without drawing anything: directories, prompts, environments, GPUs that a recipe asks for."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml

from evaluation.vbench.environment import tier_for
from pipelines.loop.config import RunConfig
from pipelines.loop.plan import PROBED, counted
from pipelines.loop.rates import GeneratorSize, generator_size
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.workspace import Workspace

NO_MEMORY = ("out of memory", "allocate memory", "alloc_failed", "unable to find an engine")
"""What allocators, cuBLAS and cuDNN say where memory ran out."""


def existing(path: Path) -> Path:
    """``path``, or the nearest directory above it that is there."""
    path = path.absolute()
    return path if path.is_dir() else existing(path.parent)


def directories(config: RunConfig) -> Iterator[str]:
    """A sentence where the run directory could not be written."""
    return unwritable(config.run_dir, "--run_dir")


def unwritable(wanted: str | Path, option: str) -> Iterator[str]:
    """A sentence where the directory ``wanted``, which ``option`` names, could not be made or written."""
    path, whole = existing(Path(wanted)), Path(wanted).absolute()
    for above in (whole, *whole.parents):
        if above.exists() and not above.is_dir():
            yield f"{above}, where {wanted} would lie, is a file; choose another {option}."
    if not os.access(path, os.W_OK) or (path != whole and not _can_be_made_in(path)):
        yield f"{path}, where {wanted} would lie, cannot be written to; choose another {option}."


def _can_be_made_in(folder: Path) -> bool:
    # What may be written by its permissions may still refuse it: a file system that is full, or none.
    try:
        tempfile.TemporaryDirectory(prefix=".rehearsal_", dir=folder).cleanup()
    except OSError:
        return False
    return True


def held(output: str | Path, config: Any, made: str) -> Iterator[str]:
    """A sentence where what lies in ``output`` was ``made`` by another config."""
    # A workspace makes its directory.
    if Path(output).is_dir() and os.access(output, os.W_OK):
        try:
            Workspace(output).check(config, made)
        except InputError as error:
            yield str(error)


def gpus(config: RunConfig) -> Iterator[str]:
    """A sentence for each thing that asks for more GPUs than there are here."""
    found = torch.cuda.device_count()
    yield from without_gpu("generator.path", config.generator.path)
    yield from half_without_gpu({"generator.dtype": config.generator.dtype, "judge.dtype": config.judge.dtype})
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


def real_size(generator: str) -> GeneratorSize | None:
    """The size of a generator that is known; None where it is not, or a toy of that name lies there."""
    folder = Path(resolve(generator))
    toy = folder.is_dir() and sum(file.stat().st_size for file in folder.rglob("*.safetensors")) <= PROBED
    return None if toy else generator_size(generator)


def without_gpu(option: str, generator: str) -> Iterator[str]:
    """A sentence where the generator that ``option`` names is too large for what there is here."""
    if not torch.cuda.device_count() and (known := real_size(generator)):
        yield (
            f"{option} {generator} has {known.weights[0]} billion weights, which need a GPU; there is none here: run "
            "it where one is."
        )


def half_without_gpu(precisions: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each option whose precision is made for a GPU, where there is none."""
    for name, value in precisions.items():
        if value != "float32" and not torch.cuda.device_count():
            yield f"{name} is {value}, which is made for a GPU, and there is none here; run it where one is."


def one_process() -> None:
    """Raises InputError in one of several processes: a rehearsal starts and kills processes of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("A rehearsal is done by one process; start it with python, not with a launcher.", exit_code=2)


def tracker(name: str) -> Iterator[str]:
    """A sentence where what live curves are sent with is not installed."""
    if name != "none" and find_spec(name) is None:
        yield f"align.tracker is {name!r}; pip install {name}, or give 'none'."


def environments(config: RunConfig) -> Iterator[str]:
    """A sentence for the VBench dimensions that could not be scored, for each reason."""
    found = {name: tier_for(name) for name in config.score.vbench.names}
    yield from not_scored({name: reason for name, (tier, reason) in found.items() if tier is None})


def not_scored(reasons: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each reason for which dimensions, by their names, would not be scored."""
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(name for name, other in reasons.items() if other == reason)
        yield f"{names} would not be scored: {reason.rstrip('.')}."


def space(config: RunConfig, video: float, prompts: int, held_out: int, free: int) -> str | None:
    """A sentence where all videos, each of ``video`` bytes with its latents, would not fit on the disk."""
    parts = counted(config, prompts, held_out)
    needed = video * (parts["videos of rounds"] + parts["videos of score"] + parts["videos of VBench"])
    return no_room("videos and latents", needed, config.run_dir, "--run_dir", free)


def no_room(what: str, size: float, path: str | Path, option: str, free: int | None = None) -> str | None:
    """A sentence where ``size`` bytes of ``what`` do not fit below ``path``, which has ``free`` bytes (None: as the
    disk says).
    """
    place = existing(Path(path))
    free = shutil.disk_usage(place).free if free is None else free
    if size <= free:
        return None
    return (
        f"{size / 1e9:.1f} GB are needed for {what}, and {place} has {free / 1e9:.1f} GB left; make room, or choose "
        f"another {option}."
    )


def mended(where: str, error: BaseException, knobs: Mapping[str, str]) -> str:
    """What went wrong in ``where``, with its mend; where memory ran out, ``knobs`` say of each last part of a place
    what to lower, '' of any other.
    """
    words = " ".join(str(error).split())
    if isinstance(error, InputError):
        return f"{where}: {words}"
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if memory or any(said in words.lower() for said in NO_MEMORY):
        mend = knobs.get(where.rpartition("/")[2], knobs[""])
        return f"{where}: memory ran out; {mend}."
    return f"{where}: {type(error).__name__}: {words[:400]}; this is no mistake that is known: please report it."
