"""The training data: which (pair, noise, timestep) is visited when, and the tensors of a visit.

A draw is seeded by what it is (run seed, pair, epoch, k), and steps are cut from one global list, so neither the order
of work, nor the number of processes, nor a resumption can change what is trained on.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from generators.base import Generator
from videoduet.errors import InputError
from videoduet.records import PreferencePair, Prompt, Sample, SamplerSettings, stable_id
from videoduet.seeding import seed_for
from videoduet.store import write_tensors

OPEN_SHARDS = 16
PROMPTS_PER_SHARD = 256
PROMPTS_PER_CALL = 16
GUIDANCE_RANGE = (5.0, 15.0)
"""The guidance scales that T2V-Turbo's students were distilled on."""


@dataclass(frozen=True)
class Draw:
    """The ``k``-th (noise, timestep) of pair number ``pair`` in ``epoch``."""

    pair: int
    epoch: int
    k: int


@dataclass(frozen=True)
class Batch:
    """n draws as 2n latents (2n, C, T, h, w), the chosen first, then the rejected; both sides share noise and timestep.

    ``timesteps`` (2n,) int64; ``prompt_embeds`` (2n, L, D) float32; ``settings`` are each sample's own.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompt_embeds: Tensor
    settings: list[SamplerSettings]


def pair_id(pair: PreferencePair) -> str:
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


def split_held_out(pairs: Sequence[PreferencePair], share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Pairs to train on, and those of about ``share`` of the prompts to measure on: whole prompts, by their ids alone.

    Some prompt is always left to train on.
    """
    prompts = sorted({pair.prompt_id for pair in pairs}, key=lambda prompt: seed_for("held out", prompt))
    count = min(round(share * len(prompts)), len(prompts) - 1)
    held_out = set(prompts[: max(count, 1 if share and len(prompts) > 1 else 0)])
    return (
        [pair for pair in pairs if pair.prompt_id not in held_out],
        [pair for pair in pairs if pair.prompt_id in held_out],
    )


class TensorRows:
    """Single rows of tensors in safetensors shards, float32. Few shards are open; only the rows asked for are read."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, safe_open] = OrderedDict()

    def row(self, path: Path, name: str, index: int) -> Tensor:
        return self._shard(path).get_slice(name)[index : index + 1][0].float()

    def shape(self, path: Path, name: str) -> list[int]:
        """Raises InputError where the shard or the tensor in it cannot be read."""
        try:
            return self._shard(path).get_slice(name).get_shape()
        except (OSError, SafetensorError) as error:
            raise InputError(f"Shard {path} cannot be read ({error}); sample these prompts again.") from error

    def _shard(self, path: Path) -> safe_open:
        if path not in self._open:
            self._open[path] = safe_open(path, "pt")
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]


def usable_pairs(
    pairs: Iterable[PreferencePair],
    samples: Mapping[str, Sample],
    prompts: Mapping[str, Prompt],
    rows: TensorRows,
    run_dir: Path,
) -> tuple[list[PreferencePair], list[str]]:
    """The pairs that can be trained on, ordered by id and each once, and one sentence for each that cannot.

    A pair needs two different videos with sample records, a known prompt, and readable latents of the shape that most
    have.
    """
    good: dict[str, tuple[PreferencePair, tuple[int, ...]]] = {}
    problems = []
    for pair in pairs:
        name = f"Pair {pair_id(pair)} (chosen {pair.chosen_id}, rejected {pair.rejected_id})"
        sides = (pair.chosen_id, pair.rejected_id)
        if pair.chosen_id == pair.rejected_id:
            problems.append(f"{name} sets a video against itself.")
        elif pair.prompt_id not in prompts:
            problems.append(f"{name} belongs to prompt {pair.prompt_id}, which is not among the prompts.")
        elif missing := [side for side in sides if side not in samples]:
            problems.append(f"{name} has no sample record of {' and '.join(missing)}.")
        else:
            try:
                shapes = [_latent_shape(samples[side], rows, run_dir) for side in sides]
            except InputError as error:
                problems.append(f"{name}: {error}")
                continue
            if shapes[0] != shapes[1]:
                problems.append(f"{name} has latents of two shapes, {shapes[0]} and {shapes[1]}.")
            else:
                good[pair_id(pair)] = (pair, shapes[0])
    common = Counter(shape for _, shape in good.values()).most_common(1)
    for key, (_, shape) in good.items():
        if shape != common[0][0]:
            problems.append(f"Pair {key} has latents of shape {shape}, most have {common[0][0]}.")
    return [good[key][0] for key in sorted(good) if good[key][1] == common[0][0]], problems


def _latent_shape(sample: Sample, rows: TensorRows, run_dir: Path) -> tuple[int, ...]:
    count, *shape = rows.shape(run_dir / sample.latents_path, "latents")
    if sample.index_in_shard >= count:
        raise InputError(f"Sample {sample.id} is number {sample.index_in_shard} of {count} in {sample.latents_path}.")
    return tuple(shape)


def store_prompt_embeds(
    generator: Generator, prompts: Sequence[Prompt], folder: Path, *, write: bool
) -> dict[str, tuple[Path, int]]:
    """Where each prompt's text conditioning (L, D) lies: shard (tensor ``embeds``) and row.

    Shards that are missing are encoded if ``write``.
    """
    places = {}
    for start in range(0, len(prompts), PROMPTS_PER_SHARD):
        chunk = prompts[start : start + PROMPTS_PER_SHARD]
        path = folder / f"{stable_id(*(prompt.id for prompt in chunk))}.safetensors"
        if write and not path.exists():
            texts = [prompt.text for prompt in chunk]
            with torch.no_grad():
                parts = [
                    generator.encode_prompts(texts[i : i + PROMPTS_PER_CALL]).float().cpu()
                    for i in range(0, len(texts), PROMPTS_PER_CALL)
                ]
            write_tensors(path, {"embeds": torch.cat(parts)})
        places.update({prompt.id: (path, row) for row, prompt in enumerate(chunk)})
    return places


class PairLoader:
    """Makes the tensors of draws. Everything comes from disk or a seed; no encoder is needed."""

    def __init__(
        self,
        generator: Generator,
        pairs: Sequence[PreferencePair],
        samples: Mapping[str, Sample],
        embeds: Mapping[str, tuple[Path, int]],
        rows: TensorRows,
        *,
        run_dir: Path,
        seed: int,
        device: torch.device,
        guidance: Literal["record", "uniform"] = "record",
    ):
        self.generator, self.pairs, self.samples, self.embeds = generator, pairs, samples, embeds
        self.rows, self.run_dir, self.seed, self.device, self.guidance = rows, run_dir, seed, device, guidance

    def load(self, draws: Sequence[Draw]) -> Batch:
        pairs = [self.pairs[draw.pair] for draw in draws]
        sides = [self.samples[p.chosen_id] for p in pairs] + [self.samples[p.rejected_id] for p in pairs]
        latents = torch.stack([self._latents(sample) for sample in sides])
        places = [self.embeds[pair.prompt_id] for pair in pairs]
        embeds = torch.stack([self.rows.row(path, "embeds", row) for path, row in places])
        settings = [sample.settings for sample in sides]
        timesteps, noise = [], []
        for row, (draw, pair, latent) in enumerate(zip(draws, pairs, latents, strict=False)):
            # Noise comes from the CPU's generator, so that a draw is the same on every device.
            rng = torch.Generator().manual_seed(seed_for(self.seed, "draw", pair_id(pair), draw.epoch, draw.k))
            timesteps.append(self.generator.draw_timestep(rng))
            noise.append(torch.randn(latent.shape, generator=rng))
            if self.guidance == "uniform":
                low, high = GUIDANCE_RANGE
                w = low + (high - low) * torch.rand((), generator=rng).item()
                for side in (row, row + len(draws)):
                    settings[side] = replace(settings[side], guidance_scale=w)
        return Batch(
            latents=latents.to(self.device),
            noise=torch.stack(noise + noise).to(self.device),
            timesteps=torch.tensor(timesteps + timesteps, device=self.device),
            prompt_embeds=torch.cat([embeds, embeds]).to(self.device),
            settings=settings,
        )

    def _latents(self, sample: Sample) -> Tensor:
        return self.rows.row(self.run_dir / sample.latents_path, "latents", sample.index_in_shard)
