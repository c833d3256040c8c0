"""Diffusion-DPO on stored preferences, from a config to an adapter or a whole generator."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from alignment.preferences.stored import write_preferences
from alignment.training.config import PreferenceTrainingConfig
from alignment.training.gathering import gather
from alignment.training.optimizer import check_optimizer
from alignment.training.tracking import check_tracker
from alignment.training.trainer import SUMMARY, align
from generators.base import Generator
from generators.drawing import unread
from generators.loading import load_generator
from videoduet.config import resolve
from videoduet.processes import processes
from videoduet.store import atomic_path, write_json
from videoduet.workspace import Workspace


@dataclass(frozen=True)
class TrainedGenerator:
    """What came of a training: the directory of the adapter, or of the whole generator where all weights were trained;
    the trainer's summary; a sentence for each pair or video that was left out, and one where the text encoder does not
    read all of the captions.
    """

    path: Path
    summary: dict[str, Any]
    left_out: list[str]
    unread: list[str]


def train_on_preferences(
    config: PreferenceTrainingConfig, on_step: Callable[[dict[str, Any]], None] | None = None
) -> TrainedGenerator:
    """What comes of training as ``config`` says, or of going on with it; ``on_step`` gets each step's metrics.

    The output also gets ``preferences.jsonl`` (the pairs, as they can be read again), ``left_out.json``, and in
    ``align/`` the log, the measurements on held-out pairs and the summary. Raises InputError where the output holds
    another training, or where nothing can be trained on.
    """
    workspace, state = Workspace(config.output), processes()
    workspace.check(config, "trained")
    output, path = workspace.root, resolve(config.generator)
    if not (output / "align" / SUMMARY).exists():
        check_tracker(config.align.tracker)
        check_optimizer(config.align)
    generator = load_generator(
        path, sampler=config.sampler, dtype=config.dtype, device=str(state.device), load_in=config.align.load_in
    )
    preferences, stored, problems = gather(config, generator, output)
    if state.is_main_process:
        write_preferences(output / "preferences.jsonl", stored)
        # Only now: what failed so far has trained nothing, and may be mended in the same directory.
        workspace.adopt(config, "trained")
    state.wait_for_everyone()
    notes = unread(generator, [prompt.text for prompt in preferences.prompts.values()])
    summary = align(
        generator, preferences.pairs, preferences.samples, preferences.prompts, config=config.align, seed=config.seed,
        output_dir=output / "align", base=path, events=output / "events" / output.name,
        adapter=Path(config.adapter) if config.adapter else None, on_step=on_step,
    )  # fmt: skip
    result = output / "align" / "adapter"
    if config.align.parameters == "all":
        result = output / "generator"
        if state.is_main_process and not result.exists():
            _write_whole_pipeline(path, generator, output / "align" / "denoiser", result)
    problems += summary["left_out"]
    if state.is_main_process:
        write_json(output / "left_out.json", problems)
    state.wait_for_everyone()
    return TrainedGenerator(result, summary, problems, notes)


def _write_whole_pipeline(path: str, generator: Generator, denoiser: Path, target: Path) -> None:
    """The directory of the generator that was trained, with ``denoiser`` in the place of its own."""
    source = path if Path(path).is_dir() else DiffusionPipeline.download(path)
    with atomic_path(target) as temporary:
        shutil.copytree(source, temporary, ignore=lambda folder, _: [generator.denoiser_name] * (folder == source))
        shutil.copytree(denoiser, temporary / generator.denoiser_name)
