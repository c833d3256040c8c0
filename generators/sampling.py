"""Draw many videos: batches across prompts, shards that resume, noise that depends on the item alone.

While a batch is copied from the device, encoded and written, the next one is drawn.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from generators.base import Generator
from videoduet.records import Prompt, Sample, SamplerSettings
from videoduet.store import read_records, write_records, write_tensors
from videoduet.video.ahead import Means, VideoWriters

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
    means: Means | None = None,
) -> Iterator[int]:
    """The number of videos after each batch that is written (at once for those on disk), while ``items`` are drawn into
    ``output_dir``.

    Items are put in the order of prompt id and index, batches and shards are cut from that list and then dealt out,
    and a batch that is not full is filled up with repetitions: so for one set of items and one size of batches a video
    does not change by a bit with the order in which they are given or the number of processes (a place in a batch and
    the number of a processor's threads change last bits). A shard is a parquet file of :class:`Sample`, a safetensors
    file of final latents and mp4 files; whole shards are kept on resume. In a file of records paths are relative to
    ``root``, a directory above ``output_dir``; :func:`read_samples` makes them absolute again. ``means`` says what
    encodes the videos meanwhile, as in :class:`VideoWriters`.
    """
    output_dir, root = Path(output_dir).absolute(), Path(root).absolute()
    items = sorted(items, key=lambda item: (item.prompt.id, item.index))
    batch_size = min(batch_size, len(items))
    size = batch_size * BATCHES_PER_SHARD
    embeds: dict[str, Tensor] = {}
    shards = list(enumerate(shard_files(output_dir, len(items), version=version, batch_size=batch_size)))
    pixels = generator.settings.num_frames * generator.settings.height * generator.settings.width
    under_way = deque[_Batch]()
    with VideoWriters(batch_size, pixels=pixels, means=means) as writers:
        for number, file in shards[process::processes]:
            name, mine = file.stem.removeprefix("samples_"), items[number * size : (number + 1) * size]
            if file.exists():
                yield len(mine)
                continue
            embeds, shard = encode_each(generator, mine, embeds), _Shard(name, output_dir, root, version, round_number)
            for offset in range(0, len(mine), batch_size):
                batch = mine[offset : offset + batch_size]
                drawn = draw_batch(generator, batch, embeds, batch_size)
                work = shard.hand_over(writers, batch, drawn, generator)
                under_way.append(_Batch(len(batch), work, shard if offset + batch_size >= len(mine) else None))
                yield from _written(under_way, writers, wait=False)
        yield from _written(under_way, writers, wait=True)


def shard_files(output_dir: Path, items: int, *, version: str, batch_size: int) -> list[Path]:
    """The files of records that :func:`sample_videos` makes of so many items."""
    size = min(batch_size, items) * BATCHES_PER_SHARD
    return [output_dir / f"samples_{version}_{number:05d}.parquet" for number in range(-(-items // size))]


def draw_batch(
    generator: Generator, batch: Sequence[SamplingItem], embeds: Mapping[str, Tensor], batch_size: int
) -> Tensor:
    """Final latents (B, C, T, h, w) of ``batch``, filled up to ``batch_size``; ``embeds`` are by prompt id."""
    full = [*batch, *[batch[-1]] * (batch_size - len(batch))]
    conditioning = torch.stack([embeds[item.prompt.id] for item in full])
    return generator.sample(conditioning, [item.seed for item in full])[: len(batch)]


@dataclass
class _Batch:
    """What is under way of a batch."""

    videos: int
    work: list[Future]
    completes: "_Shard | None" = None


def _written(under_way: deque[_Batch], writers: VideoWriters, wait: bool) -> Iterator[int]:
    """The number of videos of each batch that is written, in their turn; ``wait`` for all. Raises what went wrong."""
    while under_way and (wait or all(work.done() for work in under_way[0].work)):
        batch = under_way.popleft()
        for work in batch.work:
            work.result()
        if batch.completes is not None:
            # Nothing that comes later is told before the shard is whole.
            under_way.appendleft(_Batch(0, [writers.then(batch.completes.finish)]))
        if batch.videos:
            yield batch.videos


class _Shard:
    """One shard on its way to the disk."""

    def __init__(self, name: str, output_dir: Path, root: Path, version: str, round_number: int):
        self.output_dir, self.root, self.version, self.round_number = output_dir, root, version, round_number
        self.samples_path = output_dir / f"samples_{name}.parquet"
        self.latents_path = output_dir / f"latents_{name}.safetensors"
        self.latents: list[Callable[[], Tensor]] = []
        self.videos: list[tuple[SamplingItem, SamplerSettings, Path, Future[str]]] = []

    def hand_over(
        self, writers: VideoWriters, batch: Sequence[SamplingItem], drawn: Tensor, generator: Generator
    ) -> list[Future]:
        """Decode the batch's latents ``drawn``, and have its videos written: what is to wait for."""
        frames, settings = _on_its_way(generator.decode(drawn)), generator.settings
        self.latents.append(_on_its_way(drawn))
        for place, item in enumerate(batch):
            path = self.output_dir / "videos" / f"{self.version}_{item.prompt.id}_{item.index:03d}.mp4"
            written = writers.write(path, lambda place=place: frames()[place].numpy(), settings.fps)
            self.videos.append((item, settings, path, written))
        return [written for *_, written in self.videos[-len(batch) :]]

    def finish(self) -> None:
        """Write latents, then records, without which a shard is not there: once its videos are written."""
        write_tensors(self.latents_path, {"latents": torch.cat([latents() for latents in self.latents])})
        samples = [
            Sample(
                id=written.result(),
                prompt_id=item.prompt.id,
                index=item.index,
                seed=item.seed,
                generator=self.version,
                round=self.round_number,
                settings=settings,
                video_path=str(path),
                latents_path=str(self.latents_path),
                index_in_shard=number,
            )
            for number, (item, settings, path, written) in enumerate(self.videos)
        ]
        write_records(self.samples_path, samples, Sample, root=self.root)


def _on_its_way(tensor: Tensor) -> Callable[[], Tensor]:
    """A function that waits until ``tensor`` is on the CPU, and returns it there; the copy begins now."""
    if tensor.device.type != "cuda":
        there = tensor.cpu()
        return lambda: there
    # Into pinned memory, behind what the device has still to do.
    there, arrived = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        arrived.synchronize()
        return there

    return wait


def encode_each(generator: Generator, items: Sequence[SamplingItem], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Conditioning of each prompt in ``items``: taken from ``known``, or encoded alone, as company changes the last
    bits.
    """
    prompts = {item.prompt.id: item.prompt.text for item in items}
    found = {
        name: known[name] if name in known else generator.encode_prompts([text])[0] for name, text in prompts.items()
    }
    generator.rest()
    return found


def read_samples(folder: Path, version: str = "*", *, root: Path) -> list[Sample]:
    """The samples that were drawn into ``folder`` (of one generator version), in the order of prompt id and index;
    their paths are absolute. ``root`` is what :func:`sample_videos` was given, wherever that directory is now.
    """
    files = sorted(Path(folder).glob(f"samples_{version}_*.parquet"))
    return read_records(Sample, *files, root=Path(root).absolute())
