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
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table
from safetensors.torch import load_file

from generators.base import Generator
from generators.loading import load_generator
from pipelines.loop.config import parse
from shapes_world.build_base import DRAWN_AT_ONCE, draw, fit
from shapes_world.oracle import DIMENSIONS, oracle_score
from shapes_world.world import all_scenes
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.store import read_json, write_json, write_tensors
from videoduet.tables import read_lines

CLIPS, STEPS, BATCH, RATE = 192, 60, 8, 2e-4


def held_out_scores(generator: Generator, prompts: list[str], videos: int, first: int = 777) -> np.ndarray:
    """The oracle's scores (prompts, videos, dimensions) of ``videos`` of each prompt, whose noise is of seeds from
    ``first`` on.
    """
    texts = [prompt for prompt in prompts for _ in range(videos)]
    seeds = [first + 1000 * number + index for number in range(len(prompts)) for index in range(videos)]
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
    fit(
        generator, latents, embeds, torch.arange(CLIPS).repeat(2, 1).T, steps=STEPS, batch_size=BATCH, rate=RATE,
        seed=number - 1, sampled=0.0, what="fine-tuning on own samples",
    )  # fmt: skip
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
