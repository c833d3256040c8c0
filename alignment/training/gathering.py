"""What to train on, from preferences that are stored: a finished round, or pairs of video files, encoded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from alignment.preferences.stored import StoredPair, read_preferences
from alignment.training.config import PreferenceTrainingConfig
from alignment.training.latent_cache import Encoded, LatentCache
from generators.base import Generator
from generators.sampling import read_samples
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import track
from videoduet.records import PreferencePair, Prompt, Sample, SamplerSettings
from videoduet.store import content_hash, read_json, read_records, write_json


@dataclass(frozen=True)
class Preferences:
    """What the trainer needs: pairs, their samples by video id, their prompts by id."""

    pairs: list[PreferencePair]
    samples: dict[str, Sample]
    prompts: dict[str, Prompt]


def gather(
    config: PreferenceTrainingConfig, generator: Generator, output: Path
) -> tuple[Preferences, list[StoredPair], list[str]]:
    """What to train on, the same as files, and a sentence for each pair or video that is left out.

    Videos are encoded by ``generator``, over all processes; ``output`` gets what lies in a data set as bytes, and the
    latents where ``config`` names no cache. Raises InputError where nothing can be used, or where a round's latents are
    another generator's.
    """
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


def of_a_round(folder: Path) -> tuple[Preferences, list[StoredPair]]:
    """The pairs of a finished round (RUN/round_00), whose samples have their latents already; and the same as files."""
    run = folder.parent
    samples = {sample.id: sample for sample in read_samples(folder / "sample", root=run)}
    prompts = {prompt.id: prompt for prompt in read_records(Prompt, run / "prompts.parquet")}
    pairs = read_records(PreferencePair, folder / "rank" / "pairs.parquet")
    stored = [
        StoredPair(
            prompts[pair.prompt_id].text, Path(samples[pair.chosen_id].video_path),
            Path(samples[pair.rejected_id].video_path), pair.score, pair.margin,
        )
        for pair in pairs
    ]  # fmt: skip
    return Preferences(pairs, samples, prompts), stored


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
    return Preferences(pairs, samples, prompts)


def encode_all(stored: Sequence[StoredPair], cache: LatentCache, output: Path) -> list[Encoded]:
    """Every video of ``stored``, encoded once, over all processes."""
    state = processes()
    videos = list(dict.fromkeys(side for pair in stored for side in (pair.chosen, pair.rejected)))
    part = cache.encode(videos, state.process_index, state.num_processes)
    mine = [*track(part, "encoding videos", total=len(videos[state.process_index :: state.num_processes]))]
    rows = [(str(video.video), video.video_id, video.problem) for video in mine]
    write_json(output / f"encoded_{state.process_index}.json", rows)
    state.wait_for_everyone()
    files = (output / f"encoded_{number}.json" for number in range(state.num_processes))
    return [Encoded(Path(video), *rest) for file in files for video, *rest in read_json(file)]


def _check_latents(preferences: Preferences, settings: SamplerSettings, config: PreferenceTrainingConfig) -> None:
    """InputError where a round's latents are of another size, or of another generator."""
    run = yaml.safe_load((Path(config.data).absolute().parent / "config.yaml").read_text(encoding="utf-8"))
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
