"""A preference training against the recipe of the public scripts: ``python -m benchmarks.dpo_step [--size small]``.

Public scripts encode both videos and the prompt in every step. The *public recipe* also holds a frozen second copy of
the denoiser as the reference and runs chosen and rejected through each by itself; the *leaner public recipe* runs them
together and switches the LoRA off for the reference, as diffusers' script does. Ours encodes once, keeps the reference
as two numbers for each draw, runs both sides together and each LoRA layer in one product, and saves memory as its scale
says. On a CPU it also has other kernels (oneDNN's for linear layers, neighbouring pixels together in temporal
attention); one row, *stock kernels*, has those that PyTorch takes by itself, as the public recipes do. All have the
same model, LoRA, batch, precision, data, noise and timesteps, and their losses are compared. The public recipes'
videos are decoded beforehand, as their loaders do it beside the training.

*First visit* is ours with nothing cached: videos and prompts are encoded, the reference's errors worked out, then the
steps. *Later visits* are the steps of an epoch whose draws come again (``noise_epochs``); with *fresh draws* every
epoch's reference errors are worked out first. Each way runs in a process of its own; memory is the peak above what the
libraries alone take.
"""

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import UNet3DConditionModel
from jsonargparse import CLI
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from alignment.preferences.stored import StoredPair
from alignment.training.config import AlignConfig
from alignment.training.trainer import align
from benchmarks.public_recipe import PublicRecipe, now, records_of
from benchmarks.sampling import PEAK
from benchmarks.turbo_models import random_weights, real_size_turbo
from generators.base import override
from generators.families.t2v_turbo import T2VTurbo
from generators.fast import folded_lora
from generators.fast import speed as fast
from generators.loading import load_generator
from pipelines.loop.config import parse
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.rewriting import Rewrites
from videoduet.store import read_json, write_json
from videoduet.video import write_video

Size = Literal["small", "wide", "real"]
WAYS = (
    "public recipe", "leaner public recipe", "ours, first visit", "ours, later visits", "ours, fresh draws",
    "ours, later visits, stock kernels",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Pairs of data, pairs a step, LoRA rank, whether all ways compute activations again; pairs in one forward pass of
    ours.
    """

    pairs: int
    batch: int
    rank: int
    checkpointing: bool
    micro_batch: int


SCALES = {
    "small": Scale(32, 8, 32, False, 8),
    "wide": Scale(32, 8, 32, False, 4),
    "real": Scale(4, 1, 64, True, 1),
}
"""The shapes world's own shape; the same with a UNet four times as wide; T2V-Turbo's size (1.4B UNet, 16x320x512)."""


def make_generator(size: Size, device: str) -> T2VTurbo:
    """The generator of that size: the shipped one, or random weights."""
    config, _ = parse([])
    if size == "real":
        pipeline = real_size_turbo(device, torch.bfloat16)
        return T2VTurbo(pipeline, override(T2VTurbo.default_settings(pipeline), {}))
    generator = load_generator(resolve(config.generator.path), sampler=config.generator.sampler, device=device)
    if size == "wide":
        shape = dict(generator.denoiser.config)
        shape["block_out_channels"] = [4 * width for width in shape["block_out_channels"]]
        # The width of a head, whatever its name says.
        shape["attention_head_dim"] *= 4
        generator.denoiser = random_weights(UNet3DConditionModel.from_config(shape).to(device))
    return generator


def write_data(folder: Path, size: Size, generator: T2VTurbo) -> list[StoredPair]:
    """Pairs of video files of coarse noise, written once."""
    pairs, settings = [], generator.settings
    for number in range(SCALES[size].pairs):
        sides = [folder / f"{number}_{side}.mp4" for side in ("chosen", "rejected")]
        for seed, path in enumerate(sides):
            if not path.exists():
                grid = (settings.num_frames, settings.height // 8, settings.width // 8, 3)
                coarse = np.random.default_rng([number, seed]).integers(0, 256, grid, np.uint8)
                write_video(path, coarse.repeat(8, axis=1).repeat(8, axis=2), settings.fps)
        pairs.append(StoredPair(f"video number {number}", *sides))
    return pairs


def align_config(size: Size, epochs: int, noise_epochs: int | None) -> AlignConfig:
    """What all ways train with."""
    scale = SCALES[size]
    return AlignConfig(
        beta=500.0, learning_rate=1e-4, warmup_steps=0, draws_per_pair=1, epochs=epochs, noise_epochs=noise_epochs,
        batch_size=scale.batch, micro_batch=scale.micro_batch, lora_rank=scale.rank, lora_alpha=scale.rank,
        gradient_checkpointing=scale.checkpointing, mixed_precision="bf16" if size == "real" else "no",
        checkpoint_steps=10**6, tracker="none",
    )  # fmt: skip


def ours(
    generator: T2VTurbo, stored: list[StoredPair], config: AlignConfig, root: Path, *, later: bool
) -> dict[str, Any]:
    """The same by :func:`alignment.training.trainer.align`: all of it, or for ``later`` the time of the steps alone."""
    moments, losses = [], []

    def on_step(metrics: dict) -> None:
        moments.append(now())
        losses.append(metrics["loss"])

    started = now()
    records, cache = records_of(generator, stored, root)
    for _ in cache.encode([side for pair in stored for side in (pair.chosen, pair.rejected)]):
        pass
    with tempfile.TemporaryDirectory(dir=root) as output:
        align(
            generator, records.pairs, records.samples, records.prompts, config=config, seed=0, output_dir=Path(output),
            adapter=None, on_step=on_step,
        )  # fmt: skip
    seconds = (moments[-1] - moments[0]) * len(moments) / (len(moments) - 1) if later else moments[-1] - started
    return {"seconds": seconds, "losses": losses, "shares": {}}


def run_way(way: str, size: Size, epochs: int, root: Path) -> None:
    """One way, measured, in a process of its own; leaves ``WAY.json`` in ``root``."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    idle = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    generator = make_generator(size, device)
    stored = write_data(root / "videos", size, generator)
    operations = pair_operations(generator)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    # A first visit is one epoch; fresh draws are told apart from later visits by their reference errors.
    config = align_config(size, 1 if "first" in way else epochs, None if "fresh" in way else 1)
    if way in WAYS[:2]:
        measured = PublicRecipe(generator, stored, config, root, joint=way == WAYS[1]).run()
    else:
        if "stock kernels" in way:
            folded_lora.ROWS, fast.attend_together = sys.maxsize, lambda denoiser: Rewrites()
        measured = ours(generator, stored, config, root, later="later" in way)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - idle
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    speed = len(measured["losses"]) * config.batch_size / measured["seconds"]
    processor = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    limit = next((value for name, value in PEAK.items() if name in processor), None) if size == "real" else None
    utilisation = None if limit is None else speed * operations / limit
    write_json(root / f"{way}.json", {**measured, "peak": peak, "pairs_per_second": speed, "utilisation": utilisation})


def pair_operations(generator: T2VTurbo) -> float:
    """Operations that a pair needs of the denoiser: forward on both sides, and as much again for the gradients of
    activations (those of frozen weights are not made; what is computed again is no work).
    """
    noisy, embeds = generator.noise_batch([0, 1]), generator.encode_prompts(["a", "b"]).to(generator.denoiser.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator.predict(noisy, torch.tensor([519, 519], device=noisy.device), embeds, [generator.settings] * 2)
    return 2.0 * counter.get_total_flops()


def report(size: Size, results: dict[str, dict]) -> None:
    """Print speeds, memory and how far the losses are apart."""
    public = results[WAYS[0]]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    table = Table(
        "way", "pairs/s", "against public", "peak memory", "against public", "utilisation", title=f"{size}, {where}"
    )
    for way, result in results.items():
        speed, memory = result["pairs_per_second"], result["peak"]
        table.add_row(
            way, f"{speed:.2f}", f"{speed / public['pairs_per_second']:.2f}", f"{memory / 2**20:.0f} MiB",
            f"{memory / public['peak']:.2f}", "–" if result["utilisation"] is None else f"{result['utilisation']:.0%}",
        )  # fmt: skip
    console.print(table)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in public["shares"].items())
    console.print(f"The public recipe's time: {shares}")
    # Fresh draws are others from the second epoch on.
    for way in [way for way in results if way not in (WAYS[0], "ours, fresh draws")]:
        both = zip(results[way]["losses"], public["losses"], strict=False)
        apart = max(abs(ours - theirs) for ours, theirs in both)
        console.print(f"{way}: losses differ from the public recipe's by at most {apart:.1e}")


def main(size: Size = "small", epochs: int = 4, way: str | None = None, root: Path | None = None) -> None:
    """Time all ways and print their ratios.

    Args:
        size: The shapes world's shape, the same with a UNet four times as wide, or T2V-Turbo's size (for a GPU).
        epochs: Visits of each pair.
        way: Measure this way alone (what the command starts for itself).
        root: Where that way finds the data.
    """
    if way is not None:
        run_way(way, size, epochs, root)
        return
    with tempfile.TemporaryDirectory() as folder:
        ways = WAYS[:-1] if torch.cuda.is_available() else WAYS
        for each in ways:
            command = ["--size", size, "--epochs", str(epochs), "--way", each, "--root", folder]
            subprocess.run([sys.executable, "-m", "benchmarks.dpo_step", *command], check=True)
        report(size, {each: read_json(Path(folder) / f"{each}.json") for each in ways})


if __name__ == "__main__":
    CLI(main, as_positional=False)
