"""What a run will cost, before it is started."""

import math
import time

from generators.loading import load_generator
from pipelines.loop.config import RunConfig
from pipelines.loop.prompts import read_run_prompts
from videoduet.config import resolve
from videoduet.processes import device


def counts(config: RunConfig, prompts: int, held_out: int, steps: int) -> dict[str, int]:
    """Videos, judge rollouts (showings answered), GRPO rollouts and denoiser forwards (videos) of a whole run.

    ``steps``: the sampler's, for each video.
    """
    n, rounds = config.generator.videos_per_prompt, config.rounds
    scored = held_out * config.score.videos_per_prompt
    videos = prompts * n * rounds + scored * (rounds + 1)
    tournament = 2 * prompts * math.comb(n, 2) * rounds
    refreshes = rounds - 1 if config.refresh.enabled and config.refresh.original_data else 0
    # A refresh asks for a knockout, the challenge of the loser before, and two equal pairs of each prompt.
    refreshing = 2 * prompts * (n - 1 + 1 + 2) * refreshes
    grpo = (
        config.refresh.training.steps * config.refresh.training.pairs_per_step * config.refresh.training.num_generations
    )
    pairs = prompts * config.pairs.pairs_per_prompt
    draws = pairs * config.align.epochs * config.align.draws_per_pair
    if config.align.max_steps is not None:
        draws = min(draws, config.align.max_steps * config.align.batch_size)
    return {
        "videos": videos,
        "judge rollouts": tournament + refreshing + 2 * 3 * scored * rounds,
        "GRPO rollouts": grpo * refreshes,
        "denoiser forwards (sampling)": videos * steps,
        # Policy and reference forward for both sides of a pair, and a backward that costs two forwards.
        "denoiser forwards (alignment)": draws * 2 * 4 * rounds,
    }


def planned(config: RunConfig) -> dict[str, str]:
    """The counts, and hours of sampling from one measured batch on this machine, as a person reads them."""
    prompts = read_run_prompts(config.prompts)
    generator = load_generator(
        resolve(config.generator.path), sampler=config.generator.sampler, dtype=config.generator.dtype, device=device()
    )
    plan = counts(config, len(prompts.train), len(prompts.held_out), generator.settings.steps)
    batch = min(config.generator.batch_size, len(prompts.train))
    embeds = generator.encode_prompts([prompt.text for prompt in prompts.train[:batch]])
    with generator.at_speed(config.generator.speed) as fast:
        if fast:
            # What compiles in the first batch is no part of hours.
            generator.decode(generator.sample(embeds, range(batch)))
        started = time.perf_counter()
        frames = generator.decode(generator.sample(embeds, range(batch))).cpu()
        rate = batch / (time.perf_counter() - started)
    return {
        "prompts": f"{len(prompts.train):,}",
        **{name: f"{value:,}" for name, value in plan.items()},
        "hours of sampling (measured on one batch here)": f"{plan['videos'] / rate / 3600:.2f}",
        "videos on disk, at most (GB)": f"{plan['videos'] * frames[0].numel() / 1e9 / 4:.2f}",
    }
