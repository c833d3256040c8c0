"""Diffusion-DPO on stored preferences: ``python -m pipelines.train_generator --generator G --data D --output DIR``.

``data`` is VideoDPO's folder (metadata.json, pair.json), a JSON list of {caption, chosen, rejected} as UnifiedReward's,
a Hugging Face data set with two video columns, or a finished round of this project's loop (RUN/round_00). Videos are
encoded once into a cache; training sees latents only. The same command resumes.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from diffusers import DiffusionPipeline

from alignment.preferences.stored import Columns, StoredPair, read_preferences, write_preferences
from alignment.training.config import AlignConfig
from alignment.training.latent_cache import Encoded, Frames, LatentCache
from alignment.training.trainer import align
from generators.base import Generator
from generators.loading import load_generator
from generators.sampling import read_samples
from videoduet.commands import guarded, parse_command
from videoduet.config import Precision, execution, identity, resolve, to_dict
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.records import PreferencePair, Prompt, Sample, SamplerSettings
from videoduet.store import atomic_path, content_hash, read_json, read_records, write_bytes, write_json
from videoduet.workspace import RunDirectory


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Learn a generator from preferences that are stored.

    Attributes:
        generator: diffusers directory or hub id of a text-to-video model.
        data: VideoDPO's folder, a JSON (Lines) file of caption, chosen and rejected, a data set's directory, parquet
            file or hub id, or a round of a run (RUN/round_00).
        output: Where the adapter and everything on the way to it is kept.
        cache: Where latents are cached (None: in the output); several trainings may share it.
        adapter: A LoRA to go on from.
        sampler: Overrides of the family's settings: the size, frames and rate that videos are encoded at, and the
            guidance scale that the denoiser is told.
        dtype: Precision of the weights.
        seed: Seed of all randomness.
        frames: 'by_time' takes the videos' frames at the generator's frame rate, 'as_stored' their first ones whatever
            their rate.
        columns: What a data set calls its caption and its two videos.
        align: Diffusion-DPO.
    """

    generator: str = identity("", "generator")
    data: str = identity("", "preferences")
    output: str = execution("", "output")
    cache: str | None = execution(None, "cache")
    adapter: str | None = identity(None, "LoRA")
    sampler: dict[str, Any] = field(default_factory=dict, metadata={"role": "identity"})
    dtype: Precision = identity("float32", "precision")
    seed: int = identity(0, "seed")
    frames: Frames = identity("by_time", "frames")
    columns: Columns = Columns()
    align: AlignConfig = AlignConfig(held_out=0.1)

    def __post_init__(self) -> None:
        for name in ("generator", "data", "output"):
            if not getattr(self, name):
                raise InputError(f"No {name} is named; give --{name}.", exit_code=2)


@dataclass(frozen=True)
class Preferences:
    """What the trainer needs: pairs, their samples by video id, their prompts by id; paths are relative to ``root``."""

    pairs: list[PreferencePair]
    samples: dict[str, Sample]
    prompts: dict[str, Prompt]
    root: Path


def of_a_round(path: Path) -> tuple[Preferences, list[StoredPair]]:
    """The pairs of a finished round, whose samples have their latents already; and the same as files."""
    root = path.parent
    samples = {sample.id: sample for sample in read_samples(path / "sample")}
    prompts = {prompt.id: prompt for prompt in read_records(Prompt, root / "prompts.parquet")}
    pairs = read_records(PreferencePair, path / "rank" / "pairs.parquet")
    stored = [
        StoredPair(
            prompts[pair.prompt_id].text, root / samples[pair.chosen_id].video_path,
            root / samples[pair.rejected_id].video_path, pair.score, pair.margin,
        )
        for pair in pairs
    ]  # fmt: skip
    return Preferences(pairs, samples, prompts, root), stored


def _check_latents(preferences: Preferences, settings: SamplerSettings, config: TrainConfig) -> None:
    """InputError where a round's latents are of another size, or of another generator."""
    run = yaml.safe_load((preferences.root / "config.yaml").read_text())
    drawn_by = resolve(run["generator"]["path"])
    if drawn_by != resolve(config.generator):
        raise InputError(
            f"{config.data} was drawn by {drawn_by}, whose latents mean nothing to another; give that as --generator."
        )
    made = next(iter(preferences.samples.values())).settings
    for name in ("num_frames", "height", "width"):
        asked, drawn = getattr(settings, name), getattr(made, name)
        if asked != drawn:
            raise InputError(f"{config.data} was drawn with {name} {drawn}, not {asked}; set it in --sampler.")


def of_files(
    stored: Sequence[StoredPair], ids: Mapping[Path, str], cache: LatentCache, settings: SamplerSettings
) -> Preferences:
    """Records of stored pairs, whose videos (``ids``: their contents' hashes) are all in ``cache``."""
    prompts = {prompt.id: prompt for prompt in (Prompt.of(pair.caption) for pair in stored)}
    samples: dict[str, Sample] = {}
    pairs = []
    for pair in stored:
        prompt_id = Prompt.of(pair.caption).id
        for side in (pair.chosen, pair.rejected):
            samples[ids[side]] = Sample(
                id=ids[side], prompt_id=prompt_id, index=0, seed=0, generator="stored", round=0, settings=settings,
                video_path=str(side.absolute()), latents_path=str(cache.path(ids[side]).absolute()), index_in_shard=0,
            )  # fmt: skip
        pairs.append(
            PreferencePair(
                prompt_id=prompt_id, chosen_id=ids[pair.chosen], rejected_id=ids[pair.rejected], chosen_round=0,
                rejected_round=0, margin=pair.margin, agreement=1.0, comparison_ids=(), score=pair.score,
            )
        )  # fmt: skip
    return Preferences(pairs, samples, prompts, Path("/"))


def encode_all(stored: Sequence[StoredPair], cache: LatentCache, output: Path) -> list[Encoded]:
    """Every video of ``stored``, encoded once, over all processes."""
    state = processes()
    videos = list(dict.fromkeys(side for pair in stored for side in (pair.chosen, pair.rejected)))
    share = cache.encode(videos, state.process_index, state.num_processes)
    mine = [*track(share, "encoding videos", total=len(videos[state.process_index :: state.num_processes]))]
    rows = [(str(video.video), video.video_id, video.problem) for video in mine]
    write_json(output / f"encoded_{state.process_index}.json", rows)
    state.wait_for_everyone()
    files = (output / f"encoded_{number}.json" for number in range(state.num_processes))
    return [Encoded(Path(video), *rest) for file in files for video, *rest in read_json(file)]


def gather(config: TrainConfig, generator: Generator, output: Path) -> tuple[Preferences, list[StoredPair], list[str]]:
    """What to train on, the same as files, and a sentence for each pair or video that is left out."""
    if (Path(config.data) / "rank" / "pairs.parquet").exists():
        preferences, stored = of_a_round(Path(config.data).absolute())
        _check_latents(preferences, generator.settings, config)
        return preferences, stored, []
    stored, problems = read_preferences(config.data, output / "videos", config.columns)
    path = resolve(config.generator)
    # A hub id is its own name; a directory is known by what encodes in it.
    encoder = [content_hash(file) for file in sorted(Path(path).glob("vae/*")) if file.is_file()]
    cache = LatentCache(Path(config.cache or output / "latents"), generator, ":".join(encoder) or path, config.frames)
    encoded = encode_all(stored, cache, output)
    ids = {video.video: video.video_id for video in encoded if video.problem is None}
    problems += [video.problem for video in encoded if video.problem is not None]
    usable = [pair for pair in stored if pair.chosen in ids and pair.rejected in ids]
    if not usable:
        raise InputError(f"None of the {len(stored)} pairs of {config.data} can be used. {problems[0]}")
    return of_files(usable, ids, cache, generator.settings), usable, problems


def train(config: TrainConfig) -> Path:
    """Train, or go on; returns the directory of the adapter, or of the whole generator where all weights are trained.

    The output also gets ``preferences.jsonl`` (the pairs, as they can be read again), ``left_out.json``, and in
    ``align/`` the log, the measurements on held-out pairs and the summary.
    """
    directory, state = RunDirectory(config.output), processes()
    output = directory.root
    if (output / "config.yaml").exists() and (changed := directory.touched_phases(config, {})):
        raise InputError(f"{config.output} was trained with another {next(iter(changed))}; give another --output.")
    path = resolve(config.generator)
    generator = load_generator(path, sampler=config.sampler, dtype=config.dtype, device=str(state.device))
    preferences, stored, problems = gather(config, generator, output)
    if state.is_main_process:
        write_preferences(output / "preferences.jsonl", stored)
        write_bytes(output / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
    state.wait_for_everyone()
    summary = align(
        generator, preferences.pairs, preferences.samples, preferences.prompts, config=config.align, seed=config.seed,
        run_dir=preferences.root, output_dir=output / "align", base=path, events=output / "events" / output.name,
        adapter=Path(config.adapter) if config.adapter else None,
    )  # fmt: skip
    result = output / "align" / "adapter"
    if config.align.parameters == "all":
        result = output / "generator"
        if state.is_main_process and not result.exists():
            _whole_pipeline(path, generator, output / "align" / "denoiser", result)
    problems += summary["left_out"]
    if state.is_main_process:
        write_json(output / "left_out.json", problems)
        _say(config, summary, result, len(problems))
    state.wait_for_everyone()
    return result


def _whole_pipeline(path: str, generator: Generator, denoiser: Path, target: Path) -> None:
    """The directory of the generator that was trained, with ``denoiser`` in the place of its own."""
    source = path if Path(path).is_dir() else DiffusionPipeline.download(path)
    with atomic_path(target) as temporary:
        shutil.copytree(source, temporary, ignore=lambda folder, _: [generator.denoiser_name] * (folder == source))
        shutil.copytree(denoiser, temporary / generator.denoiser_name)


def _say(config: TrainConfig, summary: Mapping[str, Any], result: Path, left_out: int) -> None:
    last, held_out = summary["last_step"], summary["held_out"]
    lines = [f"{summary['pairs']} pairs, {summary['steps']} steps."]
    if left_out:
        lines.append(f"{left_out} pairs or videos were left out, see {Path(config.output) / 'left_out.json'}.")
    if last:
        lines.append(f"Last step: {_told(last)}.")
    if held_out:
        lines.append(f"{summary['held_out_pairs']} held-out pairs: {_told(held_out)}.")
    lines += [f"Note: {note}" for note in summary["notes"]]
    adapted = f"--generator {result}" if config.align.parameters == "all" else (
        f"--generator {config.generator} --adapter {result}"
    )  # fmt: skip
    lines.append(f"Draw with it: python -m pipelines.sample {adapted} --prompts FILE --output DIR")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _told(metrics: Mapping[str, Any]) -> str:
    if metrics["loss"] is None or metrics["implicit_accuracy"] is None:
        return "loss not finite"
    return f"loss {metrics['loss']:.4f}, implicit accuracy {metrics['implicit_accuracy']:.2f}"


def parse(arguments: Sequence[str]) -> TrainConfig:
    return parse_command(TrainConfig, "train_generator", __doc__, arguments)


def main() -> None:
    config = parse(sys.argv[1:])
    guarded(lambda: train(config) and None, "the same command")


if __name__ == "__main__":
    main()
