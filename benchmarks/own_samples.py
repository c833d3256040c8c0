"""What fine-tuning on its own samples does to the tiny generator: ``python -m benchmarks.own_samples [--rounds 6]``.

No judge, no preferences: each round draws one video each of 192 scenes, and all weights of the denoiser learn to
predict them from noise. After every ``measured``-th round the oracle scores held-out videos, always from the same
noise. A base that gains here has not converged, so what preferences add to it cannot be told from more training; one
whose best of a few videos is no better than their mean leaves preferences nothing to choose.

Rounds are kept; interrupted, the same command goes on.
"""

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor, nn

from generators.base import Generator
from generators.families.t2v_turbo import consistency_grid
from generators.loading import load_generator
from pipelines.loop.config import parse
from shapes_world.oracle import DIMENSIONS, oracle_score
from shapes_world.world import all_scenes
from videoduet.config import resolve
from videoduet.progress import console, track
from videoduet.store import read_json, write_json, write_tensors
from videoduet.tables import read_lines

CLIPS, STEPS, WARMUP, BATCH, RATE = 192, 60, 10, 8, 2e-4
DRAWN_AT_ONCE = 32


@torch.no_grad()
def draw(generator: Generator, prompts: list[str], seeds: list[int]) -> tuple[Tensor, Tensor]:
    """Latents (n, C, T, h, w) of one video for each prompt and seed, and the prompts' embeddings (n, L, D)."""
    each = list(dict.fromkeys(prompts))
    known = dict(zip(each, generator.encode_prompts(each), strict=True))
    embeds = torch.stack([known[prompt] for prompt in prompts])
    starts = range(0, len(prompts), DRAWN_AT_ONCE)
    parts = [slice(start, start + DRAWN_AT_ONCE) for start in starts]
    return torch.cat([generator.sample(embeds[part], seeds[part]) for part in parts]), embeds


def fine_tune(generator: Generator, latents: Tensor, embeds: Tensor, seed: int) -> None:
    """All weights of the denoiser learn to predict ``latents`` (n, C, T, h, w) from noise, STEPS times, at timesteps of
    the student's own grid; the rate rises over WARMUP steps and then falls to 0.
    """
    denoiser, rng = generator.denoiser.requires_grad_(True).train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP), 1.0)
    )
    grid, settings = consistency_grid(50), [generator.settings] * BATCH
    for _ in track(range(STEPS), "fine-tuning on own samples"):
        rows = torch.randint(len(latents), (BATCH,), generator=rng)
        timesteps = grid[torch.randint(len(grid), (BATCH,), generator=rng)]
        noise = torch.randn(latents[rows].shape, generator=rng)
        predicted = generator.predict(
            generator.add_noise(latents[rows], noise, timesteps), timesteps, embeds[rows], settings
        )
        optimizer.zero_grad()
        F.mse_loss(predicted, generator.target(latents[rows], noise, timesteps)).backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    denoiser.requires_grad_(False).eval()


def held_out_scores(generator: Generator, prompts: list[str], videos: int) -> np.ndarray:
    """The oracle's scores (prompts, videos, dimensions) of ``videos`` of each prompt."""
    texts = [prompt for prompt in prompts for _ in range(videos)]
    seeds = [777 + 1000 * number + index for number in range(len(prompts)) for index in range(videos)]
    latents, _ = draw(generator, texts, seeds)
    scores = []
    for start in range(0, len(latents), DRAWN_AT_ONCE):
        frames = generator.decode(latents[start : start + DRAWN_AT_ONCE]).numpy()
        scores += [oracle_score(*pair) for pair in zip(frames, texts[start : start + DRAWN_AT_ONCE], strict=True)]
    return np.array([[score[name] for name in DIMENSIONS] for score in scores]).reshape(len(prompts), videos, -1)


def measured(generator: Generator, prompts: list[str], videos: int, file: Path) -> np.ndarray:
    """:func:`held_out_scores`, kept in ``file``, so never worked out twice."""
    if not file.exists():
        write_json(file, held_out_scores(generator, prompts, videos).tolist())
    return np.array(read_json(file))


def train_round(generator: Generator, number: int, file: Path) -> None:
    """Draw and learn round ``number``, or read what it came to from ``file``."""
    if file.exists():
        generator.denoiser.load_state_dict(load_file(file))
        return
    rng, scenes = random.Random(0), [scene.prompt for scene in all_scenes()]
    prompts = [rng.sample(scenes, CLIPS) for _ in range(number)][-1]
    latents, embeds = draw(generator, prompts, [50_000_000 + 1000 * (number - 1) + index for index in range(CLIPS)])
    fine_tune(generator, latents, embeds, number - 1)
    write_tensors(file, generator.denoiser.state_dict())


def row(scores: np.ndarray, before: np.ndarray) -> list[str]:
    """Means by dimension with the gain since ``before`` (± 95 % over prompts), their mean, that of each prompt's best
    video, and the deviation between videos of one prompt.
    """
    gains = (scores - before).mean(1)
    spread = 1.96 * gains.std(0, ddof=1) / np.sqrt(len(gains))
    cells = zip(scores.mean((0, 1)), gains.mean(0), spread, strict=True)
    overall = scores.mean(2)
    figures = (overall.mean(), overall.max(1).mean(), overall.std(1).mean())
    return [*(f"{mean:.3f} ({gain:+.3f} ± {width:.3f})" for mean, gain, width in cells), *map("{:.3f}".format, figures)]


def main(output: Path = Path("runs/own_samples"), rounds: int = 6, videos: int = 2, every: int = 3) -> None:
    """Print what the oracle says of held-out videos from round to round.

    Args:
        output: Where rounds are kept.
        rounds: How many rounds of drawing and learning.
        videos: Held-out videos of each prompt.
        every: Rounds between measurements.
    """
    config, _ = parse([])
    torch.use_deterministic_algorithms(True, warn_only=True)
    generator = load_generator(resolve(config.generator.path), sampler=config.generator.sampler)
    prompts = read_lines(resolve(config.prompts.held_out))
    table = Table("round", *DIMENSIONS, "mean", f"best of {videos}", "deviation in a prompt")
    before = measured(generator, prompts, videos, output / f"base_{videos}.json")
    table.add_row("base", *row(before, before))
    for number in range(1, rounds + 1):
        train_round(generator, number, output / f"round_{number:02d}.safetensors")
        if number % every == 0:
            scores = measured(generator, prompts, videos, output / f"round_{number:02d}_{videos}.json")
            table.add_row(str(number), *row(scores, before))
            before = scores
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False, description=__doc__)
