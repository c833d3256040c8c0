"""The policy's predictions on draws: this process's part of a step, in micro-batches."""

import math
from collections.abc import Sequence

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

from alignment.training.config import AlignConfig
from alignment.training.loader import Batch, PairLoader
from alignment.training.loss import squared_error
from alignment.training.parallel import Replicated
from alignment.training.policy import autocasts, without_adapter
from alignment.training.schedule import Draw
from generators.base import Generator


class PolicyForward:
    """What ``generator``, whose denoiser is the policy, predicts for draws; ``parallel`` is how processes hold it."""

    def __init__(self, generator: Generator, config: AlignConfig, parallel: Replicated):
        self.generator, self.config, self.parallel = generator, config, parallel
        self.state, self.autocast = PartialState(), autocasts(generator.denoiser, config)

    def on(self, loader: PairLoader, draws: Sequence[Draw]) -> tuple[Batch, Tensor, Tensor]:
        """The tensors of n draws, the policy's predictions on them, from one forward pass, and what these should be
        (both (2n, C, T, h, w)).
        """
        batch = loader.load(draws)
        return batch, self.predict(batch), self.target(batch)

    def target(self, batch: Batch) -> Tensor:
        """What predictions on ``batch`` should be (2n, C, T, h, w)."""
        return self.generator.target(batch.latents, batch.noise, batch.timesteps)

    def predict(self, batch: Batch) -> Tensor:
        """The prediction (2n, C, T, h, w) float32 of whatever denoiser is in force."""
        noisy = self.generator.add_noise(batch.latents, batch.noise, batch.timesteps)
        # Halves that autocast kept of weights in shards would be whole weights.
        kept = not self.parallel.in_step
        with torch.autocast(self.state.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=kept):
            if batch.told is not None:
                return self.generator.predict_told(noisy, batch.timesteps, batch.prompt_embeds, batch.told)
            return self.generator.predict(noisy, batch.timesteps, batch.prompt_embeds, batch.settings)

    def passes(self, size: int) -> list[tuple[slice, bool]]:
        """This process's slices of a step of ``size`` draws: its contiguous part, in micro-batches. May be empty.

        Where processes must go through the model in step, those with a smaller part go through a draw again that does
        not count (False).
        """
        part, micro = math.ceil(size / self.state.num_processes), self.config.micro_batch
        start = min(size, self.state.process_index * part)
        stop = min(size, start + part)
        passes = [(slice(at, min(at + micro, stop)), True) for at in range(start, stop, micro)]
        idle = math.ceil(part / micro) - len(passes) if self.parallel.in_step else 0
        return passes + [(slice(0, 1), False)] * idle

    @torch.no_grad()
    def reference_errors(self, loader: PairLoader, draws: Sequence[Draw]) -> Tensor:
        """The reference's errors (n, 2) float32 on the draws of one step, gathered from all processes.

        They are computed in the micro-batches that training will use, so that a policy equal to its reference has
        equal errors to the last bit: loss ln 2 and implicit accuracy ½, exactly.
        """
        mine = []
        with without_adapter(self.generator.denoiser, self.config):
            for part, counts in self.passes(len(draws)):
                _, prediction, target = self.on(loader, draws[part])
                if counts:
                    mine += squared_error(prediction, target, self.config.reduction).reshape(2, -1).T.tolist()
        return torch.tensor(gather_object(mine)).reshape(-1, 2)
