"""Draw videos.

For any set of prompts: ``python -m pipelines.sample --generator DIR_OR_ID --prompts FILE --output DIR``.
For a round of the loop: ``python -m pipelines.sample --run_dir RUN --round R``.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import yaml

from generators.base import Generator
from generators.loading import load_generator, with_adapter
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.phase import phase_main
from pipelines.loop.run import Run
from videoduet.commands import guarded, parse_command
from videoduet.config import Precision, at_least, execution, identity, resolve, to_dict
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.prompt_sets import read_prompts
from videoduet.records import Prompt
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_records, write_bytes, write_records
from videoduet.workspace import RunDirectory


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Draw videos for a set of prompts, with what is needed to learn from them. The same command resumes.

    Attributes:
        generator: diffusers directory or hub id of a text-to-video model.
        prompts: Text file with one prompt a line, or a JSON, CSV or parquet file with a column of them: VidProM's files
            and VBench's VBench_full_info.json are read as they are.
        output: Where videos, final latents and records are kept.
        adapter: A LoRA in PEFT's format to put in force.
        videos_per_prompt: Videos of each prompt.
        seed: Each video's noise depends on this, its prompt and its index alone.
        batch_size: Videos drawn at once, across prompts.
        sampler: Overrides of the family's settings: steps, guidance_scale, fps, num_frames, height, width.
        dtype: Precision of the weights.
        compile: Compile the denoiser (torch.compile): a slow start, then faster steps.
        column: The column of prompts, where it is not called prompt, prompt_en, text or caption.
        nsfw_below: Of VidProM's files only prompts are drawn whose six probabilities of being unsafe are all below it.
        limit: Draw that many prompts (None: all): the first ones, or those that subset_seed draws.
        subset_seed: Seed of the random subset of ``limit`` prompts (None: the first ones).
    """

    generator: str = identity("", "generator")
    prompts: str = identity("", "prompts")
    output: str = execution("", "output")
    adapter: str | None = identity(None, "LoRA")
    videos_per_prompt: int = identity(1, "N")
    seed: int = identity(0, "seed")
    batch_size: int = identity(8, "videos at once")
    sampler: dict[str, Any] = field(default_factory=dict, metadata={"role": "identity"})
    dtype: Precision = identity("float32", "precision")
    compile: bool = identity(False, "compile")
    column: str | None = identity(None, "column")
    nsfw_below: float = identity(0.2, "probability")
    limit: int | None = identity(None, "number of prompts")
    subset_seed: int | None = identity(None, "seed")

    def __post_init__(self) -> None:
        for name in ("generator", "prompts", "output"):
            if not getattr(self, name):
                raise InputError(f"No {name} is named; give --{name}.", exit_code=2)
        at_least(1, videos_per_prompt=self.videos_per_prompt, batch_size=self.batch_size, limit=self.limit)


def draw(config: SamplingConfig) -> Path:
    """Draw, or go on with, what ``config`` says; returns the directory."""
    directory, state = RunDirectory(config.output), processes()
    output = directory.root
    prompts = _prompts(config, directory)
    items = [
        SamplingItem(prompt, index, seed_for(config.seed, prompt.id, index))
        for prompt in prompts
        for index in range(config.videos_per_prompt)
    ]
    if not directory.is_done(output):
        generator = load_generator(
            resolve(config.generator), sampler=config.sampler, dtype=config.dtype, device=str(state.device)
        )
        generator = with_adapter(generator, config.adapter)
        if config.compile:
            generator.denoiser.compile()
        if state.is_main_process:
            # Only now: what failed so far has drawn nothing, and may be mended in the same directory.
            write_records(output / "prompts.parquet", prompts, Prompt)
            write_bytes(output / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
        sample_items(generator, items, directory, output, "sample", 0, config.batch_size, f"{len(prompts)} prompts")
        if state.is_main_process:
            _write_index(output, prompts)
            directory.finish(output, samples=len(items))
    console.print(f"{len(items)} videos are in {output / 'videos'}, listed in {output / 'videos.csv'}.", markup=False)
    return output


def _prompts(config: SamplingConfig, directory: RunDirectory) -> list[Prompt]:
    """The prompts: where videos are there already, those they were drawn for, since the file may have changed.

    Raises InputError where they were drawn with other settings.
    """
    output = directory.root
    if any(output.glob("samples_*.parquet")):
        if changed := directory.touched_phases(config, {}):
            raise InputError(f"{config.output} was drawn with another {next(iter(changed))}; give another --output.")
        return read_records(Prompt, output / "prompts.parquet")
    found = read_prompts(
        resolve(config.prompts), column=config.column, nsfw_below=config.nsfw_below, limit=config.limit,
        subset_seed=config.subset_seed,
    )  # fmt: skip
    for reason, count in found.left_out.items():
        console.print(f"{config.prompts}: {count} rows left out, {reason}.", markup=False)
    return found.prompts


def _write_index(output: Path, prompts: Sequence[Prompt]) -> None:
    videos = {
        prompt: list(samples)
        for prompt, samples in itertools.groupby(read_samples(output), key=lambda sample: sample.prompt_id)
    }
    rows = [
        {"video": sample.video_path, "prompt": prompt.text, "index": sample.index, "seed": str(sample.seed)}
        for prompt in prompts
        for sample in videos[prompt.id]
    ]
    with atomic_path(output / "videos.csv") as temporary:
        pa.csv.write_csv(pa.Table.from_pylist(rows), temporary)


def sample_items(
    generator: Generator, items: Sequence[SamplingItem], directory: RunDirectory, output: Path, version: str,
    round: int, batch_size: int, what: str,
) -> None:  # fmt: skip
    """This process's share of ``items``, under a progress bar; returns when all processes have theirs."""
    state = processes()
    drawn = sample_videos(
        generator, items, output, directory.root, version=version, round=round, batch_size=batch_size,
        process=state.process_index, processes=state.num_processes,
    )  # fmt: skip
    for _ in track(drawn, f"{what}: sample", total=len(items) // state.num_processes, advance=int):
        pass
    state.wait_for_everyone()


def sample(run: Run, round: int) -> None:
    """N videos for each training prompt from G_round, with their final latents."""
    output, config = run.directory.phase("sample", round), run.config.generator
    items = [
        SamplingItem(prompt, index, seed_for(run.config.seed, "sample", round, prompt.id, index))
        for prompt in run.prompts
        for index in range(config.videos_per_prompt)
    ]
    sample_items(
        run.generator(round), items, run.directory, output, f"G_{round}", round, config.batch_size, f"round {round}"
    )
    if run.processes.is_main_process:
        run.directory.finish(output, samples=len(items))


def parse(arguments: Sequence[str]) -> SamplingConfig:
    return parse_command(SamplingConfig, "sample", __doc__, arguments)


def main() -> None:
    if any(argument.split("=")[0] == "--run_dir" for argument in sys.argv[1:]):
        phase_main(sample, "Draw a round's videos.")
    else:
        config = parse(sys.argv[1:])
        guarded(lambda: draw(config) and None, "the same command")


if __name__ == "__main__":
    main()
