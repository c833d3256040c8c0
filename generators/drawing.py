"""Draw videos for a file of prompts: ``python -m pipelines.sample``, from its config to a folder with an index."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from generators.base import Generator
from generators.config import SamplingConfig, Speed
from generators.loading import load_generator, with_adapter
from generators.sampling import SamplingItem, read_samples, sample_videos
from videoduet.config import resolve
from videoduet.machines import ALONE, Machine
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.prompt_sets import read_prompts
from videoduet.records import Prompt
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_records, write_records
from videoduet.video import Format, read_video, write_clip
from videoduet.workspace import Workspace


def draw_items(
    generator: Generator, items: Sequence[SamplingItem], output: Path, root: Path, *, version: str, round_number: int,
    batch_size: int, speed: Speed, what: str, machine: Machine = ALONE,
) -> list[str]:  # fmt: skip
    """Draw this process's part of ``items``, at ``speed``, under a progress bar called ``what``; returns when all
    processes of this ``machine`` have theirs.

    What is not drawn of the prompts, as the text encoder does not read it, is said in the terminal, and returned.
    """
    state, notes = processes(), unread(generator, [item.prompt.text for item in items])
    if state.is_main_process:
        for note in notes:
            console.print(f"warning: {note}", markup=False, highlight=False, soft_wrap=True)
    start, step = machine.part()
    drawn = sample_videos(
        generator, items, output, root=root, version=version, round_number=round_number, batch_size=batch_size,
        process=start, processes=step,
    )  # fmt: skip
    with generator.at_speed(speed):
        for _ in track(drawn, what, total=len(items) // step, advance=int):
            pass
    state.wait_for_everyone()
    return notes


def unread(generator: Generator, texts: Iterable[str]) -> list[str]:
    """A sentence where some of ``texts`` are longer than the text encoder reads; none where it reads them all."""
    if (length := generator.text_length) is None:
        return []
    tokens = {text: tuple(generator.tokens(text)) for text in dict.fromkeys(texts)}
    long = [text for text, ids in tokens.items() if len(ids) > length]
    cut = [tokens[text] for text in long]
    if not cut:
        return []
    # The last that is read is the token that ends a text.
    begun = Counter(ids[: length - 1] for ids in tokens.values())
    alike = sum(begun[ids[: length - 1]] > 1 for ids in cut)
    same = f"; {alike} of them differ from another only there, and are drawn as if they were the same" if alike else ""
    return [
        f"{len(cut)} of {len(tokens)} prompts are longer than the {length} tokens that the text encoder reads, and "
        f"what follows is not drawn{same}; shorten them, or put first what matters. "
        f"They begin: {'; '.join(repr(text[:60]) for text in long[:3])}{' …' * (len(long) > 3)}"
    ]


def draw_prompts(config: SamplingConfig) -> tuple[Path, int]:
    """Draw, or go on with, what ``config`` says; returns the directory and how many videos are in it.

    The directory gets ``videos``, ``videos.csv``, records and final latents. Raises InputError where it holds videos
    that were drawn with other settings.
    """
    directory, state = Workspace(config.output), processes()
    output = directory.root
    prompts = _prompts(config, directory)
    items = [
        SamplingItem(prompt, index, seed_for(config.seed, prompt.id, index))
        for prompt in prompts
        for index in range(config.videos_per_prompt)
    ]
    if not directory.is_done():
        generator = load_generator(
            resolve(config.generator), sampler=config.sampler, dtype=config.dtype, device=str(state.device)
        )
        generator = with_adapter(generator, config.adapter)
        if state.is_main_process:
            # Only now: what failed so far has drawn nothing, and may be mended in the same directory.
            write_records(output / "prompts.parquet", prompts, Prompt)
            directory.adopt(config, "drawn", again=True)
        what = f"{len(prompts)} prompts: sample"
        notes = draw_items(
            generator, items, output, output, version="sample", round_number=0, batch_size=config.batch_size,
            speed=config.speed, what=what,
        )  # fmt: skip
        if state.is_main_process:
            _write_index(output, prompts)
            directory.finish(None, samples=len(items), **({"notes": notes} if notes else {}))
        state.wait_for_everyone()
    if config.format != "mp4":
        _write_copies(output, config.format)
    return output, len(items)


def _prompts(config: SamplingConfig, directory: Workspace) -> list[Prompt]:
    """The prompts: where videos are there already, those they were drawn for, since the file may have changed."""
    if any(directory.root.glob("samples_*.parquet")):
        directory.check(config, "drawn")
        return read_records(Prompt, directory.root / "prompts.parquet")
    found = read_prompts(
        resolve(config.prompts), column=config.column, nsfw_below=config.nsfw_below, limit=config.limit,
        subset_seed=config.subset_seed,
    )  # fmt: skip
    for reason, count in found.left_out.items():
        console.print(f"{config.prompts}: {count} rows left out, {reason}.", markup=False)
    return found.prompts


def _write_copies(output: Path, kind: Format) -> None:
    """Each video once more, in a folder called as the format is; what is there already stays."""
    state, samples = processes(), read_samples(output, root=output)
    for sample in track(samples[state.process_index :: state.num_processes], f"{len(samples)} videos: {kind}"):
        name = Path(sample.video_path).stem
        path = output / kind / (name if kind == "frames" else f"{name}.{kind}")
        if not path.exists():
            write_clip(path, read_video(sample.video_path), kind)
    state.wait_for_everyone()


def _write_index(output: Path, prompts: Sequence[Prompt]) -> None:
    """``videos.csv``: what each video shows, with paths relative to the directory."""
    videos = {
        prompt: list(samples)
        for prompt, samples in itertools.groupby(read_samples(output, root=output), key=lambda s: s.prompt_id)
    }
    rows = [
        {
            "video": str(Path(sample.video_path).relative_to(output)),
            "prompt": prompt.text,
            "index": sample.index,
            "seed": str(sample.seed),
        }
        for prompt in prompts
        for sample in videos[prompt.id]
    ]
    with atomic_path(output / "videos.csv") as temporary:
        pa.csv.write_csv(pa.Table.from_pylist(rows), temporary)
