"""Draw many videos: batches across prompts, shards that resume, noise that depends on the item alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from generators.base import Generator
from videoduet.records import Prompt, Sample
from videoduet.store import content_hash, read_records, write_records, write_tensors
from videoduet.video import write_video

BATCHES_PER_SHARD = 4


@dataclass(frozen=True)
class SamplingItem:
    """One video to draw: the ``index``-th of ``prompt``, from ``seed``."""

    prompt: Prompt
    index: int
    seed: int


def sample_videos(
    generator: Generator,
    items: Sequence[SamplingItem],
    output_dir: Path,
    *,
    root: Path,
    version: str,
    round_number: int,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
) -> Iterator[int]:
    """The number of videos after each batch (at once for those on disk), while ``items`` are drawn into ``output_dir``.

    Items are put in the order of prompt id and index, batches and shards are cut from that list and then dealt out,
    and a batch that is not full is filled up with repetitions: so for one set of items and one size of batches a video
    does not change by a bit with the order in which they are given or the number of processes (a place in a batch and
    the number of a processor's threads change last bits). A shard is a parquet file of :class:`Sample`, a safetensors
    file of final latents and mp4 files; whole shards are kept on resume. In a file of records paths are relative to
    ``root``, a directory above ``output_dir``; :func:`read_samples` makes them absolute again.
    """
    output_dir, root = Path(output_dir).absolute(), Path(root).absolute()
    items = sorted(items, key=lambda item: (item.prompt.id, item.index))
    batch_size = min(batch_size, len(items))
    size = batch_size * BATCHES_PER_SHARD
    embeds: dict[str, Tensor] = {}
    starts = list(range(0, len(items), size))
    for start in starts[process::processes]:
        shard, name = items[start : start + size], f"{version}_{start // size:05d}"
        if (output_dir / f"samples_{name}.parquet").exists():
            yield len(shard)
            continue
        embeds = _encode(generator, shard, embeds)
        latents_path, records, latents = output_dir / f"latents_{name}.safetensors", [], []
        for offset in range(0, len(shard), batch_size):
            batch = shard[offset : offset + batch_size]
            full = batch + [batch[-1]] * (batch_size - len(batch))
            conditioning = torch.stack([embeds[item.prompt.id] for item in full])
            drawn = generator.sample(conditioning, [item.seed for item in full])[: len(batch)]
            for item, frames in zip(batch, generator.decode(drawn).numpy(), strict=True):
                path = output_dir / "videos" / f"{version}_{item.prompt.id}_{item.index:03d}.mp4"
                write_video(path, frames, generator.settings.fps)
                records.append(
                    Sample(
                        id=content_hash(path),
                        prompt_id=item.prompt.id,
                        index=item.index,
                        seed=item.seed,
                        generator=version,
                        round=round_number,
                        settings=generator.settings,
                        video_path=str(path),
                        latents_path=str(latents_path),
                        index_in_shard=len(records),
                    )
                )
            latents.append(drawn.cpu())
            yield len(batch)
        write_tensors(latents_path, {"latents": torch.cat(latents)})
        write_records(output_dir / f"samples_{name}.parquet", records, Sample, root=root)


def _encode(generator: Generator, items: Sequence[SamplingItem], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Conditioning of each prompt in ``items``: taken from ``known``, or encoded alone, as company changes the last
    bits.
    """
    prompts = {item.prompt.id: item.prompt.text for item in items}
    return {
        name: known[name] if name in known else generator.encode_prompts([text])[0] for name, text in prompts.items()
    }


def read_samples(folder: Path, version: str = "*", *, root: Path) -> list[Sample]:
    """The samples that were drawn into ``folder`` (of one generator version), in the order of prompt id and index;
    their paths are absolute. ``root`` is what :func:`sample_videos` was given, wherever that directory is now.
    """
    files = sorted(Path(folder).glob(f"samples_{version}_*.parquet"))
    return read_records(Sample, *files, root=Path(root).absolute())
