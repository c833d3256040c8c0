"""Draws the official prompt suite with a generator, under the official names."""

import os
from collections.abc import Sequence
from pathlib import Path

from evaluation.vbench.config import VBenchEvaluationConfig
from evaluation.vbench.suite import SuiteVideo, VideoFile, names_on_disk, write_index
from generators.base import Generator
from generators.drawing import draw_items
from generators.loading import load_generator, with_adapter
from generators.sampling import SamplingItem, read_samples
from videoduet.config import resolve
from videoduet.processes import processes
from videoduet.records import Prompt, stable_id
from videoduet.seeding import seed_for
from videoduet.store import read_json, read_records, write_json, write_records
from videoduet.workspace import Workspace

UNREAD = "unread.json"


def draw(config: VBenchEvaluationConfig, wanted: Sequence[SuiteVideo]) -> Path:
    """The folder where the wanted videos have their official names; those that are not there yet are drawn.

    What is asked for is kept as a plan, whose batches do not depend on what was drawn before it was stopped; what a
    later command asks for beyond that becomes a plan of its own. Raises InputError where the output was drawn with
    other settings.
    """
    workspace, state = Workspace(Path(config.output) / "samples"), processes()
    workspace.check(config, "drawn")
    samples = workspace.root
    plans = [read_records(SuiteVideo, path) for path in sorted(samples.glob("plan_*.parquet"))]
    planned = {video for plan in plans for video in plan}
    drawn = {(sample.prompt_id, sample.index) for sample in read_samples(samples, root=samples)}
    # Nobody writes before all have read what there is: all must come to the same list of work.
    state.wait_for_everyone()
    if rest := [video for video in wanted if video not in planned]:
        plans.append(rest)
    needed, generator, notes = set(wanted), None, unread_of(Path(config.output))
    for number, plan in enumerate(plans):
        items = _items(plan, config.seed)
        if not needed & set(plan) or all((item.prompt.id, item.index) in drawn for item in items):
            continue
        generator = generator or loaded(config, str(state.device))
        if state.is_main_process and plan is rest:
            workspace.adopt(config, "drawn")
            write_records(samples / f"plan_{number:03d}.parquet", plan, SuiteVideo)
        notes += draw_items(
            generator, items, samples, samples, version=f"plan{number:03d}", round_number=0,
            batch_size=config.batch_size, speed=config.speed, what=f"{len(items)} videos: sample",
        )  # fmt: skip
        if notes and state.is_main_process:
            write_json(samples / UNREAD, list(dict.fromkeys(notes)))
    folder = Path(config.output) / "videos"
    if state.is_main_process:
        _name_officially(samples, folder, {Prompt.of(v.prompt).id: v.prompt for plan in plans for v in plan})
    return folder


def unread_of(output: Path) -> list[str]:
    """What of the prompts was not drawn into ``output``, as the text encoder does not read it: sentences."""
    kept = output / "samples" / UNREAD
    return read_json(kept) if kept.exists() else []


def _items(plan: Sequence[SuiteVideo], seed: int) -> list[SamplingItem]:
    prompts = {text: Prompt.of(text, "VBench") for text in dict.fromkeys(video.prompt for video in plan)}
    return [SamplingItem(prompts[v.prompt], v.index, seed_for(seed, prompts[v.prompt].id, v.index)) for v in plan]


def loaded(config: VBenchEvaluationConfig, device: str) -> Generator:
    """The generator that ``config`` names, on ``device``, with its adapter in force."""
    generator = load_generator(resolve(config.generator), sampler=config.sampler, dtype=config.dtype, device=device)
    return with_adapter(generator, config.adapter)


def _name_officially(samples: Path, folder: Path, texts: dict[str, str]) -> None:
    """Give every video drawn its official name, as a second name of the same file, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = read_samples(samples, root=samples)
    drawn = {SuiteVideo(texts[sample.prompt_id], sample.index): sample.video_path for sample in found}
    names = names_on_disk([video.name for video in drawn], folder)
    files = []
    for video, source in drawn.items():
        path = folder / names[video.name]
        if path.exists() and not path.samefile(source):
            path = folder / f"{stable_id(video.name)}.mp4"
        if not path.exists():
            os.link(source, path)
        files.append(VideoFile(path, video.prompt, video.index))
    write_index(folder, files)
