"""Sampling many videos against the plain way: ``python -m benchmarks.sampling [--size small|real]``.

The plain way is a loop over prompts, one video a call, with the whole clip decoded at once; ours is
``generators.sampling``, as ``pipelines.sample`` runs it, where a batch is drawn while the last is written; *in turn*
is the same without that. All have the same weights, noise and files, and the videos are compared. *small* is the tiny
generator that ships; *real* is T2V-Turbo's size (1.4B UNet, 16x320x512), random, in bfloat16, for a GPU. What is timed
is text to mp4; runs alternate and the median ratio is told, and how long denoiser and autoencoder had nothing to do.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import CLI
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turbo_models import real_size_turbo
from generators.base import override
from generators.config import Speed
from generators.families.t2v_turbo import T2VTurbo
from generators.loading import load_generator
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.config import parse
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.records import Prompt
from videoduet.seeding import seed_for
from videoduet.tables import read_lines
from videoduet.video import read_video, write_video
from videoduet.video.ahead import Means

PEAK = {"NVIDIA H200": 989e12, "NVIDIA H100": 989e12, "NVIDIA A100": 312e12}
"""Floating point operations a second in dense bfloat16, from the maker's data sheets."""


def plain_way(generator: T2VTurbo, items: list[SamplingItem], folder: Path) -> None:
    """One video a call of the pipeline, text included, and its whole clip through the autoencoder at once."""
    pipeline, settings = generator.pipeline, generator.settings
    for number, item in enumerate(items):
        latents = pipeline(
            item.prompt.text, height=settings.height, width=settings.width, num_frames=settings.num_frames,
            num_inference_steps=settings.steps, guidance_scale=settings.guidance_scale,
            latents=generator.noise_batch([item.seed]), generator=generator.step_generators([item.seed])[0],
            output_type="latent",
        ).frames  # fmt: skip
        with torch.no_grad():
            frames = latents[0].transpose(0, 1).to(pipeline.vae.dtype) / pipeline.vae.config.scaling_factor
            pixels = pipeline.vae.decode(frames).sample.float().clamp(-1, 1)
        array = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        write_video(folder / f"{number:05d}.mp4", array, settings.fps)


def our_way(
    generator: T2VTurbo, items: list[SamplingItem], folder: Path, batch_size: int, means: Means | None
) -> float:
    """As ``pipelines.sample`` draws; returns the seconds in which denoiser and autoencoder waited."""
    options = {"version": "G_0", "round_number": 0, "batch_size": batch_size, "means": means}
    started = time.perf_counter()
    with at_work(generator) as spans:
        for _ in sample_videos(generator, items, folder, root=folder, **options):
            pass
        seconds = time.perf_counter() - started
    return seconds - sum(end - begin for begin, end in spans)


@contextmanager
def at_work(generator: T2VTurbo) -> Iterator[list[tuple[float, float]]]:
    """When the device began to sample and to decode, and when it ended, in seconds; filled in at the end."""
    marks: list[tuple[Any, Any]] = []
    on_gpu = torch.cuda.is_available()

    def mark() -> Any:
        if not on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def marked(work: Callable) -> Callable:
        def run(*arguments: Any) -> Any:
            begun = mark()
            done = work(*arguments)
            marks.append((begun, mark()))
            return done

        return run

    spans: list[tuple[float, float]] = []
    generator.sample, generator.decode = marked(generator.sample), marked(generator.decode)
    try:
        yield spans
    finally:
        del generator.sample, generator.decode
    if on_gpu:
        torch.cuda.synchronize()
    first = marks[0][0]
    spans += [tuple((m if not on_gpu else first.elapsed_time(m) / 1000) for m in pair) for pair in marks]


def difference(plain: Path, ours: Path) -> float:
    """Mean absolute difference of the two ways' videos, in grey levels of 255."""
    pairs = zip(sorted(plain.glob("*.mp4")), read_samples(ours, root=ours), strict=True)
    frames = ((read_video(one).frames, read_video(other.video_path).frames) for one, other in pairs)
    return float(np.mean([np.abs(one.astype(int) - other.astype(int)).mean() for one, other in frames]))


def flops_per_video(generator: T2VTurbo) -> float:
    """Operations of the denoiser and the decoder for one video, counted."""
    settings, latents = generator.settings, generator.noise_batch([0])
    embeds = generator.encode_prompts(["a"]).to(latents.device)
    with torch.no_grad(), FlopCounterMode(display=False) as denoiser:
        generator.predict(latents, torch.tensor([999], device=latents.device), embeds, [settings])
    with FlopCounterMode(display=False) as decoder:
        generator.decode(latents)
    return settings.steps * denoiser.get_total_flops() + decoder.get_total_flops()


def main(
    size: Literal["small", "real"] = "small",
    videos: int | None = None,
    batch_size: int | None = None,
    repeats: int = 3,
    speed: Speed = "auto",
    plain: bool = True,
    means: Means | None = None,
) -> None:
    """Time all ways and compare what they made.

    Args:
        size: The tiny generator that ships, or T2V-Turbo's size with random weights (for a GPU).
        videos: Videos a run (small: 64, real: 16), two of each prompt.
        batch_size: Videos that ours draws at once (small: 16, real: 4).
        repeats: Runs of each way, alternating.
        speed: How all draw: auto, eager or compiled.
        plain: Time the plain way too, which takes the longest.
        means: What encodes videos while ours draws (None: what suits this machine).
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, _ = parse([])
    if size == "small":
        generator: Any = load_generator(resolve(config.generator.path), sampler=config.generator.sampler, device=device)
    else:
        pipeline = real_size_turbo(device, torch.bfloat16)
        generator = T2VTurbo(pipeline, override(T2VTurbo.default_settings(pipeline), {}))
    videos, batch_size = videos or (64 if size == "small" else 16), batch_size or (16 if size == "small" else 4)
    texts = read_lines(resolve(config.prompts.train))[: -(-videos // 2)]
    items = [SamplingItem(Prompt.of(text), i, seed_for("bench", text, i)) for text in texts for i in (0, 1)][:videos]
    items.sort(key=lambda item: (item.prompt.id, item.index))  # as ours lists them
    ways: dict[str, Any] = {"plain": lambda drawn, folder: plain_way(generator, drawn, folder)} if plain else {}
    ways["in turn"] = lambda drawn, folder: our_way(generator, drawn, folder, batch_size, "in turn")
    ways["ours"] = lambda drawn, folder: our_way(generator, drawn, folder, batch_size, means)
    seconds, waits = {way: list[float]() for way in ways}, {way: list[float]() for way in ways}
    with tempfile.TemporaryDirectory() as name, generator.at_speed(speed):
        root = Path(name)
        for repeat in range(-1, repeats):
            # The first, uncounted, warms up kernels and caches.
            drawn = items if repeat >= 0 else items[:batch_size]
            for way, draw in ways.items():
                folder = root / f"{way}_{repeat}"
                folder.mkdir()
                started = time.perf_counter()
                waited = draw(drawn, folder)
                if repeat >= 0:
                    seconds[way].append(time.perf_counter() - started)
                    waits[way].append(waited)
        apart = difference(root / "plain_0", root / "ours_0") if plain else None
        same = all(
            (root / "in turn_0" / path.relative_to(root / "ours_0")).read_bytes() == path.read_bytes()
            for path in (root / "ours_0").rglob("*.*")
        )
    report(generator, seconds, waits, videos, size)
    if apart is not None:
        console.print(f"mean difference of plain and our videos: {apart:.3f} grey levels of 255")
    console.print(f"files of ours and in turn are the same, byte for byte: {same}")


def report(
    generator: T2VTurbo, seconds: dict[str, list[float]], waits: dict[str, list[float]], videos: int, size: str
) -> None:
    """Print the speeds, how long the models waited, and the ratios of ours to the other ways."""
    flops = flops_per_video(generator)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    peak = next((value for name, value in PEAK.items() if device.startswith(name)), None)
    table = Table(title=f"Sampling, {size}: {videos} videos, {device}, torch {torch.__version__}")
    for column in ("way", "videos/s (median)", "TFLOP/s", "model FLOP utilisation", "models wait, s (median)", "share"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, times in seconds.items():
        rate = videos / statistics.median(times)
        used = f"{rate * flops / peak:.1%}" if peak and size == "real" else "–"
        waited = None if way == "plain" else statistics.median(waits[way])
        told = ("–", "–") if waited is None else (f"{waited:.2f}", f"{waited / statistics.median(times):.1%}")
        table.add_row(way, f"{rate:.2f}", f"{rate * flops / 1e12:.2f}", used, *told)
    console.print(table)
    for way in (way for way in seconds if way != "ours"):
        ratios = [other / ours for other, ours in zip(seconds[way], seconds["ours"], strict=True)]
        console.print(
            f"ours against {way}: {statistics.median(ratios):.2f} x (runs: {', '.join(f'{r:.2f}' for r in ratios)})"
        )


if __name__ == "__main__":
    CLI(main, as_positional=False)
