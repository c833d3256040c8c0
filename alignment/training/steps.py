"""The optimizer steps of a preference training: gradients, measurements, checkpoints, the log."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from alignment.training.checkpoint import Progress, TrainingState, latest_checkpoint
from alignment.training.config import AlignConfig
from alignment.training.draws import Batch, Draw, PairLoader, schedule
from alignment.training.loss import squared_error
from alignment.training.metrics import bucket_means, draw_sums, empty_sums, means
from alignment.training.objective import pair_beta, pair_weights, preference_loss
from alignment.training.policy import LiveReference, without_adapter
from alignment.training.reference import cached_reference_errors
from alignment.training.sharing import share
from alignment.training.tracking import Tracker
from generators.base import Generator
from videoduet.errors import InputError
from videoduet.progress import track
from videoduet.store import finite, write_bytes

HELD_OUT_DRAWS = 256
"""About so many draws of held-out pairs are measured at a time, always the same: enough to read a curve by."""


@dataclass(frozen=True)
class Data:
    """The draws of every step, what makes their tensors, and the reference's errors (n, 2) on each step's draws."""

    loader: PairLoader
    steps: list[list[Draw]]
    reference: list[Tensor]


class AlignRun:
    """A preference training in progress: the policy, its optimizer, the schedule of draws, the reference's errors."""

    def __init__(
        self,
        generator: Generator,
        loader: PairLoader,
        held_out: PairLoader,
        config: AlignConfig,
        *,
        seed: int,
        key: str,
        output_dir: Path,
        adapter: Path | None = None,
    ):
        self.generator, self.config, self.output_dir = generator, config, output_dir
        self.state = PartialState()
        self.policy = generator.denoiser
        self.live_reference = LiveReference(generator, config, adapter) if config.anchor_weight else None
        self.sharing = share(self.policy, config, self.live_reference and self.live_reference.copy)
        self.parameters, self.optimizer = self.sharing.parameters, self.sharing.optimizer
        ema = None
        if config.ema_decay is not None:
            # Without min_decay it would be a shorter average at first, and in a short training throughout.
            ema = EMAModel(self.parameters.values(), decay=config.ema_decay, min_decay=config.ema_decay)
        self.training = TrainingState(key, self.sharing, ema, Progress())
        cut = {"draws_per_pair": config.draws_per_pair, "batch_size": config.batch_size, "seed": seed}
        steps = schedule(
            len(loader.pairs), epochs=config.epochs, max_steps=config.max_steps, noise_epochs=config.noise_epochs, **cut
        )
        # The first steps of an epoch in seeded order: a random part of it.
        enough = math.ceil(HELD_OUT_DRAWS / config.batch_size)
        measured = schedule(len(held_out.pairs), epochs=1, max_steps=enough, **cut)
        # A function of the step alone, so nothing of it needs to be in a checkpoint. Never quite 0: no step is wasted.
        scheduler = get_scheduler(
            config.lr_scheduler, self.optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=len(steps) + 1
        )
        self.lr_factor = scheduler.lr_lambdas[0]
        # Before a checkpoint is loaded: the previous round's policy is the one that is here now.
        self.data, self.held_out = (
            Data(part, draws, self._reference_errors(part, draws, f"{key}{name}"))
            for part, draws, name in ((loader, steps, ""), (held_out, measured, "_held_out"))
        )

    @property
    def progress(self) -> Progress:
        return self.training.progress

    def forward(self, loader: PairLoader, draws: Sequence[Draw]) -> tuple[Batch, Tensor, Tensor]:
        """The draws' tensors, the policy's predictions on them, from one forward pass, and what these should be."""
        batch = loader.load(draws)
        return batch, self.predict(batch), self.generator.target(batch.latents, batch.noise, batch.timesteps)

    def predict(self, batch: Batch) -> Tensor:
        noisy = self.generator.add_noise(batch.latents, batch.noise, batch.timesteps)
        enabled, cached = self.config.mixed_precision == "bf16", not self.sharing.in_step
        # Halves that autocast kept of weights in shards would be whole weights.
        with torch.autocast(self.state.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cached):
            return self.generator.predict(noisy, batch.timesteps, batch.prompt_embeds, batch.settings)

    def _reference_errors(self, loader: PairLoader, steps: list[list[Draw]], key: str) -> list[Tensor]:
        def compute(draws: Sequence[Draw]) -> Tensor:
            return self.reference_errors(loader, draws)

        return cached_reference_errors(self.output_dir / "reference_errors", key, steps, compute) if steps else []

    @torch.no_grad()
    def reference_errors(self, loader: PairLoader, draws: Sequence[Draw]) -> Tensor:
        """The reference's errors (n, 2) on the draws of one step, gathered from all processes.

        They are computed in the micro-batches that training will use, so that a policy equal to its reference has
        equal errors to the last bit: loss ln 2 and implicit accuracy ½, exactly.
        """
        mine = []
        with without_adapter(self.policy, self.config):
            for part, counts in self._passes(len(draws)):
                _, prediction, target = self.forward(loader, draws[part])
                if counts:
                    mine += squared_error(prediction, target, self.config.reduction).reshape(2, -1).T.tolist()
        return torch.tensor(gather_object(mine)).reshape(-1, 2)

    def accumulate(self, index: int) -> Tensor:
        """Leave the gradient of step ``index``'s mean loss, over all processes, in the parameters.

        Returns sums over the step's draws, by timestep bucket (:func:`alignment.training.metrics.draw_sums`).
        """
        return self._over_micro_batches(self.data, index, backward=True)

    def _over_micro_batches(self, data: Data, index: int, *, backward: bool) -> Tensor:
        draws = data.steps[index]
        # What is measured is the DPO loss alone.
        config = self.config if backward else replace(self.config, anchor_weight=0.0, sft_weight=0.0, sdpo_mu=None)
        sums = empty_sums().float().to(self.state.device)
        passes = self._passes(len(draws))
        for number, (part, counts) in enumerate(passes, 1):
            batch, prediction, target = self.forward(data.loader, draws[part])
            anchored = None
            if backward and self.live_reference is not None:
                with self.live_reference():
                    anchored = self.predict(batch)
            if backward:
                prediction.retain_grad()
            count, pairs = len(draws[part]), [data.loader.pairs[draw.pair] for draw in draws[part]]
            timesteps, weights = batch.timesteps[:count], pair_weights(pairs, config)
            beta = pair_beta(self.generator, timesteps, config)
            output = preference_loss(
                prediction,
                target,
                data.reference[index][part].to(self.state.device),
                beta=beta,
                weights=None if weights is None else weights.to(self.state.device),
                config=config,
                reference_prediction=anchored,
            )
            gradients = None
            if backward:
                # A micro-batch counts by its share of the global batch, whatever the split.
                share = count / len(draws) if counts else 0.0
                self.sharing.backward(output.loss * share, last=number == len(passes))
                scale = len(draws) / self.sharing.scale
                gradients = prediction.grad.float().flatten(1).norm(dim=1).reshape(2, -1).norm(dim=0) * scale
            if counts:
                sums += draw_sums(output, timesteps, beta, gradients)
        if backward and not passes:
            self.sharing.sum_gradients()
        return reduce(sums, "sum")

    @torch.no_grad()
    def measure(self) -> dict:
        """The metrics on the held-out pairs, kept in ``held_out.jsonl`` too; nothing where there are none."""
        if not self.held_out.steps:
            return {}
        sums = sum(self._over_micro_batches(self.held_out, i, backward=False) for i in range(len(self.held_out.steps)))
        row = {"step": self.progress.step, **means(sums), "timestep_buckets": bucket_means(sums)}
        for values in (row, *row["timestep_buckets"]):
            del values["prediction_gradient"]  # nothing is differentiated here
        row = finite(row)
        if self.state.is_main_process:
            kept = [line for line in self.measured() if line["step"] < self.progress.step]
            lines = "".join(json.dumps(line) + "\n" for line in [*kept, row])
            write_bytes(self.output_dir / "held_out.jsonl", lines.encode())
        return row

    def measured(self) -> list[dict]:
        """The measurements on held-out pairs so far, oldest first."""
        path = self.output_dir / "held_out.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def train(self, tracker: Tracker, on_step: Callable[[dict], None] | None = None) -> dict:
        """Run from the latest checkpoint, or the start, to the end; returns the last step's metrics."""
        checkpoints, config = self.output_dir / "checkpoints", self.config
        if checkpoint := latest_checkpoint(checkpoints):
            self.training.load(checkpoint)
        metrics: dict = {}
        with _step_log(self.output_dir / "log.jsonl", self.progress.step, self.state.is_main_process) as log:
            for index in self._track(range(self.progress.step, len(self.data.steps))):
                if index % config.held_out_steps == 0:
                    self._track_measurement(tracker)
                metrics = self.step(index)
                if self.state.is_main_process:
                    log.write(json.dumps(metrics) + "\n")
                    log.flush()
                tracker.log({f"train/{name}": value for name, value in metrics.items()}, self.progress.step)
                if self.progress.skipped > config.max_skipped_steps:
                    raise InputError(
                        f"{self.progress.skipped} steps had a non-finite loss or gradient, so training stopped; "
                        f"last good checkpoint: {latest_checkpoint(checkpoints) or 'none'}. "
                        "Check the latents, or lower learning_rate or beta."
                    )
                if self.progress.step % config.checkpoint_steps == 0 and self.progress.step < len(self.data.steps):
                    self.training.save(checkpoints)
                if on_step is not None:
                    on_step(metrics)
        if self.training.ema is not None:
            self.training.ema.copy_to(self.parameters.values())
        self._track_measurement(tracker)
        return metrics

    def _track_measurement(self, tracker: Tracker) -> None:
        row = self.measure()
        values = {f"held_out/{name}": value for name, value in row.items()}
        for bucket in row.get("timestep_buckets", ()):
            first, last = bucket["timesteps"]
            values |= {f"held_out_{first}-{last}/{name}": value for name, value in bucket.items()}
        tracker.log(values, self.progress.step)

    def step(self, index: int) -> dict:
        """One optimizer step and its metrics. One with a non-finite loss or gradient changes nothing but the counts."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.lr_factor(index + 1)
        sums = self.accumulate(index).double().cpu()
        values = means(sums)
        finite_values = all(map(math.isfinite, values.values()))
        norm = self.sharing.update(finite_values)
        healthy = finite_values and math.isfinite(norm)
        if healthy:
            if self.training.ema is not None:
                self.training.ema.step(self.parameters.values())
            self.progress.sums += sums
            if 3 * index >= 2 * len(self.data.steps):
                self.progress.late += sums
        self.progress.step = index + 1
        self.progress.skipped += not healthy
        return {"step": self.progress.step, **finite({**values, "grad_norm": norm}), "skipped": not healthy}

    def _passes(self, size: int) -> list[tuple[slice, bool]]:
        """This process's slices of a step of ``size`` draws: its contiguous share, in micro-batches. May be empty.

        Where processes must go through the model in step, those with a smaller share go through a draw again that does
        not count (False).
        """
        share, micro = math.ceil(size / self.state.num_processes), self.config.micro_batch
        start = min(size, self.state.process_index * share)
        stop = min(size, start + share)
        passes = [(slice(at, min(at + micro, stop)), True) for at in range(start, stop, micro)]
        idle = math.ceil(share / micro) - len(passes) if self.sharing.in_step else 0
        return passes + [(slice(0, 1), False)] * idle

    def _track(self, steps: range) -> Iterable[int]:
        return track(steps, "align", done=steps.start) if self.state.is_main_process else steps


def _step_log(path: Path, done: int, write: bool) -> AbstractContextManager:
    """The log, open for the lines after step ``done``; lines of steps that will be replayed are dropped."""
    if not write:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.read_text().splitlines(keepends=True)[:done] if path.exists() else []
    log = path.open("w")
    log.writelines(kept)
    return log
