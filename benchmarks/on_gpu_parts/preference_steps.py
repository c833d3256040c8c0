"""Steps of Diffusion-DPO, ours and the public recipe's, in the precision that recipes use and without it."""

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from alignment.preferences.stored import StoredPair
from alignment.training.config import AlignConfig
from alignment.training.latent_cache import fitted_frames
from alignment.training.schedule import schedule
from alignment.training.trainer import align
from benchmarks.on_gpu_parts.counting import counted
from benchmarks.on_gpu_parts.drawing import generator_of, work_of_forward
from benchmarks.on_gpu_parts.results import Work
from benchmarks.on_gpu_parts.session import Session
from benchmarks.public_recipe import PublicRecipe, now, records_of
from generators.families.t2v_turbo import T2VTurbo
from generators.fast.recomputation import recompute_all
from videoduet.video import write_video

PUBLIC_STEPS = 3
"""Steps of a public recipe, all of which cost the same; the first warms up."""


@dataclass(frozen=True)
class Way:
    """How a step is made: whose it is, in which precision, whether activations are computed again, and whether its
    passes are recorded.
    """

    recipe: Literal["ours", "public", "leaner public"]
    precision: Literal["bf16", "no"]
    recompute: bool | str
    speed: Literal["eager", "compiled"] = "eager"

    def __str__(self) -> str:
        kept = f"gradient_checkpointing {self.recompute}".lower()
        speed = f", speed {self.speed}" if self.recipe == "ours" else ""
        return f"{self.recipe}, mixed_precision {self.precision}, {kept}{speed}"


def ways() -> list[Way]:
    """All that are measured, first what matters most: what the card does at best, at least memory, and against what."""
    return [
        Way("ours", "bf16", "auto", "compiled"), Way("public", "bf16", True), Way("ours", "bf16", "twice", "compiled"),
        Way("ours", "bf16", True), Way("ours", "bf16", True, "compiled"), Way("public", "no", True),
        Way("leaner public", "bf16", True),
    ]  # fmt: skip


def write_pairs(folder: Path, generator: T2VTurbo, count: int) -> list[StoredPair]:
    """Pairs of video files of coarse noise."""
    pairs, settings = [], generator.settings
    for number in range(count):
        sides = [folder / f"{number}_{side}.mp4" for side in ("chosen", "rejected")]
        for seed, path in enumerate(sides):
            grid = (settings.num_frames, settings.height // 8, settings.width // 8, 3)
            coarse = np.random.default_rng([number, seed]).integers(0, 256, grid, np.uint8)
            write_video(path, coarse.repeat(8, axis=1).repeat(8, axis=2), settings.fps)
        pairs.append(StoredPair(f"video number {number}", sides[0], sides[1]))
    return pairs


def align_config(session: Session, way: Way) -> AlignConfig:
    """What a way trains with: two visits or more of the same draws."""
    size = session.size
    return AlignConfig(
        beta=5000.0, learning_rate=2e-5, warmup_steps=0, draws_per_pair=1, epochs=size.epochs, noise_epochs=1,
        batch_size=size.pairs_a_step, micro_batch=size.pairs_a_step, lora_rank=size.lora_rank,
        lora_alpha=size.lora_rank, mixed_precision=way.precision, gradient_checkpointing=way.recompute,  # pyright: ignore[reportArgumentType]
        speed=way.speed, checkpoint_steps=10**6, tracker="none",
    )  # fmt: skip


@contextmanager
def undone(generator: T2VTurbo) -> Iterator[None]:
    """After it ``generator`` has its plain denoiser again, without a LoRA, and its encoders."""
    pipeline, denoiser = generator.pipeline, generator.denoiser
    policy: Any
    encoders = {"text_encoder": pipeline.text_encoder, "vae": pipeline.vae}
    forget, device = generator.free_encoders, denoiser.device

    def put_away() -> None:
        # They wait for the next way where they take none of the card's memory.
        forget()
        for encoder in encoders.values():
            encoder.to("cpu")

    generator.free_encoders = put_away
    try:
        yield
    finally:
        del generator.free_encoders
        if (policy := generator.denoiser) is not denoiser:
            policy.unload()
            generator.denoiser = denoiser
        for encoder in encoders.values():
            encoder.to(device)
        pipeline.register_modules(**encoders)


def dpo(session: Session) -> None:
    """Steps on pairs of real size, each way; their losses are compared."""
    generator, size, losses = generator_of(session), session.size, {}
    with tempfile.TemporaryDirectory() as name:
        stored = write_pairs(Path(name), generator, size.pairs)
        step = work_of_forward(session, generator, 2).times(2.0)
        frames = fitted_frames(Path(stored[0].chosen), generator.settings)[None]
        encoding = counted(lambda: generator.encode(frames), session.ceilings, generator.pipeline.vae)
        first = step.times(1.5).and_also(encoding.times(2.0))
        for number, way in enumerate(ways()):
            root = Path(name) / str(number)
            root.mkdir()
            run = _ours if way.recipe == "ours" else _public
            found = session.attempt(str(way), 22.0, run, session, way, stored, root, step, first)
            if found is not None:
                losses[str(way)] = found
    _compare_memory(session)
    reference = next(iter(losses), None)
    for way, found in losses.items():
        apart = [abs(one - other) for one, other in zip(found, losses[reference], strict=False)]
        session.say(f"dpo: {way}: losses differ from those of '{reference}' by {', '.join(f'{a:.1e}' for a in apart)}")


def _compare_memory(session: Session) -> None:
    """Tell each way's peak as a share of the public recipe's in the same precision."""
    rows = {row.what: row.memory for row in session.results.rows if row.part == "dpo" and row.memory}
    for public in [name for name in rows if name.startswith("public")]:
        precision = public.split(", ")[1]
        for name in [name for name in rows if precision in name and name != public]:
            session.say(f"dpo: {name}: {rows[name] / rows[public]:.2f} of the peak of '{public}'")


def _ours(session: Session, way: Way, stored: list[StoredPair], root: Path, step: Work, first: Work) -> list[float]:
    generator, config = generator_of(session), align_config(session, way)
    said = [session.predict(f"{way}, {visit}", work) for visit, work in (("first visit", first), ("later", step))]
    moments, losses = [], []

    def on_step(metrics: dict[str, Any]) -> None:
        moments.append(now())
        losses.append(metrics["loss"])

    with undone(generator):
        began = now()
        records, cache = records_of(generator, stored, root)
        for _ in cache.encode([side for pair in stored for side in (pair.chosen, pair.rejected)]):
            pass
        align(
            generator, records.pairs, records.samples, records.prompts, config=config, seed=0,
            output_dir=root / "align", adapter=None, on_step=on_step,
        )  # fmt: skip
        steps = len(moments) // config.epochs
        later = statistics.median(after - before for before, after in itertools.pairwise(moments[steps - 1 :]))
        pairs = config.batch_size
        seconds = (moments[steps - 1] - began) / len(stored)
        session.record(f"{way}, first visit", seconds, "pair", said[0], losses=losses[:steps])
        session.record(f"{way}, later visits", later / pairs, "pair", said[1], losses=losses)
    return losses


class _HalfRecipe(PublicRecipe):
    """The public recipe with its denoiser under autocast."""

    def predict(self, noisy: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """As the plain one, in bfloat16."""
        with torch.autocast(noisy.device.type, torch.bfloat16):
            prediction = super().predict(noisy, timesteps, embeds)
        return prediction.float()


def _public(session: Session, way: Way, stored: list[StoredPair], root: Path, step: Work, first: Work) -> list[float]:
    generator, config = generator_of(session), align_config(session, Way("public", way.precision, False))
    predicted = session.predict(str(way), first)
    kind = _HalfRecipe if way.precision == "bf16" else PublicRecipe
    with undone(generator), recompute_all(generator.denoiser) if way.recompute else nullcontext():
        recipe = kind(generator, stored, config, root, joint=way.recipe == "leaner public")
        steps = schedule(
            len(stored), epochs=config.epochs, draws_per_pair=1, batch_size=config.batch_size, max_steps=PUBLIC_STEPS,
            seed=0, noise_epochs=1,
        )  # fmt: skip
        moments, losses = [now()], []
        for draws in steps:
            losses.append(recipe.step(draws))
            moments.append(now())
        seconds = statistics.median(after - before for before, after in itertools.pairwise(moments[1:]))
        session.record(str(way), seconds / config.batch_size, "pair", predicted, losses=losses)
    return losses
