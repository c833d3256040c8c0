"""Which (pair, noise, timestep) is visited when.

A draw is seeded by what it is (run seed, pair, epoch, k), and steps are cut from one global list, so neither the order
of work, nor the number of processes, nor a resumption can change what is trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from videoduet.records import PreferencePair, stable_id
from videoduet.seeding import seed_for


@dataclass(frozen=True)
class Draw:
    """The ``k``-th (noise, timestep) of pair number ``pair`` in ``epoch``."""

    pair: int
    epoch: int
    k: int


def pair_id(pair: PreferencePair) -> str:
    """16 hexadecimal digits that name a pair by its prompt and its two videos."""
    return stable_id(pair.prompt_id, pair.chosen_id, pair.rejected_id)


def schedule(
    num_pairs: int,
    *,
    epochs: int,
    draws_per_pair: int,
    batch_size: int,
    max_steps: int | None,
    seed: int,
    noise_epochs: int | None = None,
) -> list[list[Draw]]:
    """The draws of every optimizer step, over all processes. Each epoch visits all once, in its own seeded order; from
    ``noise_epochs`` on they are those of the epochs before.
    """
    steps: list[list[Draw]] = []
    for epoch in range(epochs):
        rng = torch.Generator().manual_seed(seed_for(seed, "order", epoch))
        order = torch.randperm(num_pairs * draws_per_pair, generator=rng).tolist()
        drawn = epoch if noise_epochs is None else epoch % noise_epochs
        draws = [Draw(item // draws_per_pair, drawn, item % draws_per_pair) for item in order]
        steps += [draws[start : start + batch_size] for start in range(0, len(draws), batch_size)]
    return steps[:max_steps]


def split_held_out(
    pairs: Sequence[PreferencePair], fraction: float
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Pairs to train on, and those of about ``fraction`` of the prompts to measure on: whole prompts, by their ids
    alone.

    Some prompt is always left to train on.
    """
    prompts = sorted({pair.prompt_id for pair in pairs}, key=lambda prompt: seed_for("held out", prompt))
    count = min(round(fraction * len(prompts)), len(prompts) - 1)
    held_out = set(prompts[: max(count, 1 if fraction and len(prompts) > 1 else 0)])
    return (
        [pair for pair in pairs if pair.prompt_id not in held_out],
        [pair for pair in pairs if pair.prompt_id in held_out],
    )
