"""Final latents on the disk: those that nobody will read are pruned; what is asked for after all is drawn again."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from generators.base import Generator
from generators.config import Speed
from generators.sampling import SamplingItem, draw_batch, encode_each
from videoduet.records import Prompt, Sample, stable_id
from videoduet.store import read_records, write_json, write_records, write_tensors

MARK = "pruned.json"
"""The file that says of a folder that latents are missing on purpose."""


def prune_latents(folder: Path, keep: Set[str], *, root: Path) -> None:
    """Remove the final latents of the samples in ``folder`` whose ids are not in ``keep``.

    Their records stay and name a file that is not there. Killed at any instant, the same call goes on; ``root`` is
    :func:`generators.sampling.sample_videos`'s.
    """
    write_json(folder / MARK, {"kept": len(keep)})
    for file in sorted(folder.glob("samples_*.parquet")):
        samples = read_records(Sample, file, root=root)
        there = [place for place, sample in enumerate(samples) if Path(sample.latents_path).exists()]
        kept = [place for place in there if samples[place].id in keep]
        named = {samples[place].latents_path for place in kept}
        if kept and kept != there:
            named = {_rewritten(file, samples, {place: _row(samples[place]) for place in kept}, root)}
        _sweep(file, named)


def restore_latents(
    load: Callable[[], Generator], folder: Path, wanted: Set[str], prompts: Mapping[str, Prompt], *, root: Path,
    batch_size: int, speed: Speed,
) -> int:  # fmt: skip
    """Draw again, from their seeds and in the batches of old, what was pruned of the samples in ``folder`` whose ids
    are in ``wanted``; returns how many that were.

    On a CPU they are what they were, byte for byte. ``load`` gives the generator that drew them, and is called only
    where something is missing; ``prompts`` are by id.
    """
    files, generator, restored = sorted(folder.glob("samples_*.parquet")), None, 0
    if not (folder / MARK).exists():
        return 0
    shards = {file: read_records(Sample, file, root=root) for file in files}
    batch_size = min(batch_size, sum(map(len, shards.values())))
    for file, samples in shards.items():
        there = {place for place, sample in enumerate(samples) if Path(sample.latents_path).exists()}
        missing = {place for place, sample in enumerate(samples) if sample.id in wanted} - there
        if not missing:
            continue
        generator = generator or load()
        with generator.at_speed(speed):
            rows = _drawn(generator, samples, missing, prompts, batch_size)
        named = _rewritten(file, samples, {**{place: _row(samples[place]) for place in there}, **rows}, root)
        _sweep(file, {named})
        restored += len(missing)
    return restored


def _drawn(
    generator: Generator, samples: Sequence[Sample], missing: Set[int], prompts: Mapping[str, Prompt], batch_size: int
) -> dict[int, Tensor]:
    """The latents of the samples at the places ``missing`` of a shard, by place."""
    items = [SamplingItem(prompts[sample.prompt_id], sample.index, sample.seed) for sample in samples]
    embeds: dict[str, Tensor] = {}
    rows: dict[int, Tensor] = {}
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        if missing & set(range(start, start + len(batch))):
            embeds = encode_each(generator, batch, embeds)
            latents = draw_batch(generator, batch, embeds, batch_size).cpu()
            rows |= {start + place: latent for place, latent in enumerate(latents) if start + place in missing}
    return rows


def _row(sample: Sample) -> Tensor:
    with safe_open(sample.latents_path, "pt") as shard:
        return shard.get_slice("latents")[sample.index_in_shard : sample.index_in_shard + 1][0]


def _rewritten(file: Path, samples: Sequence[Sample], rows: Mapping[int, Tensor], root: Path) -> str:
    """The path of a new file of these ``rows`` (by place), which the records in ``file`` name from now on."""
    name, places = file.stem.removeprefix("samples_"), sorted(rows)
    path = str(file.with_name(f"latents_{name}_kept_{stable_id(*places)}.safetensors"))
    write_tensors(path, {"latents": torch.stack([rows[place] for place in places])})
    moved = [replace(samples[place], latents_path=path, index_in_shard=row) for row, place in enumerate(places)]
    # The others name the first file there was, which never comes back.
    first = str(file.with_name(f"latents_{name}.safetensors"))
    found = dict(enumerate(replace(sample, latents_path=first) for sample in samples)) | dict(
        zip(places, moved, strict=True)
    )
    write_records(file, found.values(), Sample, root=root)
    return path


def _sweep(file: Path, named: Set[str]) -> None:
    """Remove the latents of a shard of records but those in the files ``named``: last, when the records name these."""
    name = file.stem.removeprefix("samples_")
    for other in (*file.parent.glob(f"latents_{name}.safetensors"), *file.parent.glob(f"latents_{name}_kept_*")):
        if str(other) not in named:
            other.unlink()
