"""How far rounding moves the logit of Diffusion-DPO: ``python -m benchmarks.logit_noise [--size small|real]``.

A logit is β/2 times a difference of differences of mean squared errors, of policy and reference, chosen and rejected:
what half precision rounds away of an error comes back times thousands. The policy is moved by one step along the sign
of its gradient (Adam's first) and by ten; its logits in bfloat16 are compared with the same policy's in float32.
*Noise* is the root mean square of what is off, *change* that of the true logits.
"""

import copy
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]: exported, in a way that it does not follow
from rich.table import Table
from torch import Tensor, nn

from alignment.training.config import AlignConfig
from alignment.training.loss import squared_error
from alignment.training.policy import make_policy
from benchmarks.dpo_step import Size, make_generator
from generators.base import Generator
from generators.fast.half_lora import lora_in_half
from videoduet.progress import console

BETAS = (500.0, 5000.0)


class Draws:
    """``count`` pairs of normal latents, their noise and timesteps, the same on every device."""

    def __init__(self, generator: Generator, count: int, device: str):
        self.generator = generator
        rng, shape = torch.Generator().manual_seed(0), generator.initial_noise(0).shape
        self.latents = torch.randn(count, 2, *shape, generator=rng).to(device)
        self.noise = torch.randn(count, 1, *shape, generator=rng).expand(-1, 2, *shape).to(device)
        self.timesteps = torch.linspace(99, 899, count).round().long().to(device)
        texts = [f"video number {number}" for number in range(count)]
        self.embeds = generator.encode_prompts(texts).to(device)

    def errors(self, row: int) -> Tensor:
        """The squared errors (2,) of the denoiser in force on the two sides of a pair."""
        timesteps, embeds = self.timesteps[row].expand(2), self.embeds[row].expand(2, -1, -1)
        noisy = self.generator.add_noise(self.latents[row], self.noise[row], timesteps)
        prediction = self.generator.predict(noisy, timesteps, embeds, [self.generator.settings] * 2)
        return squared_error(prediction, self.generator.target(self.latents[row], self.noise[row], timesteps))

    @torch.no_grad()
    def all_errors(self) -> Tensor:
        """Of every pair (count, 2), float64."""
        return torch.stack([self.errors(row) for row in range(len(self.latents))]).double()


def trained(policy: nn.Module) -> list[nn.Parameter]:
    """What is trained of ``policy``."""
    return [parameter for parameter in policy.parameters() if parameter.requires_grad]


def moved_errors(draws: Draws, policy: nn.Module, steps: Sequence[Sequence[Tensor]], *, half: bool) -> list[Tensor]:
    """The errors of ``policy`` (in bfloat16 by the LoRA's own way for ``half``) with each of ``steps`` added to it."""
    draws.generator.denoiser, found = policy, []
    with lora_in_half(policy) if half else nullcontext():
        for step in steps:
            with torch.no_grad():
                for parameter, move in zip(trained(policy), step, strict=True):
                    parameter.add_(move)
            found.append(draws.all_errors())
            with torch.no_grad():
                for parameter, move in zip(trained(policy), step, strict=True):
                    parameter.sub_(move)
    return found


def first_step(draws: Draws, policy: nn.Module, learning_rate: float) -> list[Tensor]:
    """Adam's first step for the first pair, as it is added."""
    draws.generator.denoiser = policy
    with lora_in_half(policy):
        errors = draws.errors(0)
        gradients = torch.autograd.grad(errors[0] - errors[1], trained(policy))
    return [-learning_rate * gradient.sign() for gradient in gradients]


def main(size: Size = "small", pairs: int = 3, learning_rate: float = 1e-4) -> None:
    """Print the noise of a logit beside its change.

    Args:
        size: The generator that ships, or T2V-Turbo's size with random weights (for a GPU).
        pairs: Pairs that are measured.
        learning_rate: Length of the step in each weight.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = make_generator(size, device)
    draws = Draws(generator, pairs, device)
    generator.free_encoders()
    generator.denoiser.to(torch.bfloat16)
    rank = 64 if size == "real" else 8
    policy = make_policy(generator, AlignConfig(lora_rank=rank, lora_alpha=rank), 0, None, None, None)
    step = first_step(draws, policy, learning_rate)
    steps = [[torch.zeros_like(move) for move in step], step, [10 * move for move in step]]
    half = moved_errors(draws, policy, steps, half=True)
    wide = moved_errors(draws, copy.deepcopy(policy).float(), steps, half=False)
    table = Table("policy", "β", "change of the logit", "noise in bfloat16", title=f"{size}, {pairs} pairs, {device}")
    for number, name in ((1, "one step"), (2, "ten times the step")):
        (true, found) = (errors[0] - errors[number] for errors in (wide, half))
        # How far the chosen error fell more than the rejected one.
        true, found = true[:, 0] - true[:, 1], found[:, 0] - found[:, 1]
        for beta in BETAS:
            change, noise = (beta / 2 * x.square().mean().sqrt().item() for x in (true, found - true))
            table.add_row(name, f"{beta:g}", f"{change:.4f}", f"{noise:.4f}")
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False)
