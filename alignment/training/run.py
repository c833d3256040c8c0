"""A preference training in progress: optimizer steps, checkpoints, the log."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from accelerate import PartialState
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from alignment.training.checkpoint import Progress, TrainingState, latest_checkpoint
from alignment.training.config import AlignConfig
from alignment.training.forward import PolicyForward
from alignment.training.held_out import HELD_OUT_DRAWS, HeldOutCurve
from alignment.training.loader import PairLoader
from alignment.training.metrics import means
from alignment.training.parallel import parallelize
from alignment.training.policy import LiveReference
from alignment.training.recording import record_passes
from alignment.training.reference import cached_reference_errors
from alignment.training.schedule import Draw, schedule
from alignment.training.step_loss import Data, StepLoss
from alignment.training.tracking import Tracker
from generators.base import Generator
from videoduet.errors import InputError
from videoduet.progress import track
from videoduet.store import finite
from videoduet.tables import read_lines


class AlignRun:
    """The policy, its optimizer, and the data that a training visits.

    ``generator`` comes with the policy as its denoiser, ``loader`` has the pairs to train on, ``held_out`` those to
    measure on; ``key`` names everything that the result depends on; ``adapter`` is the one that the policy goes on
    from.

    Attributes:
        policy_forward: The policy's predictions.
        loss: The loss of steps.
        data: What is trained on.
        curve: The measurements on held-out pairs.
        training: What a checkpoint holds.
    """

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
        self.state, self.policy = PartialState(), generator.denoiser
        self.live_reference = LiveReference(generator, config, adapter) if config.anchor_weight else None
        self.parallel = parallelize(self.policy, config, self.live_reference and self.live_reference.copy)
        self.parameters, self.optimizer = self.parallel.parameters, self.parallel.optimizer
        self.policy_forward = PolicyForward(generator, config, self.parallel)
        self.loss = StepLoss(self.policy_forward, self.live_reference)
        record_passes(self.loss, self.parallel, config)
        self.training = TrainingState(key, self.parallel, self._average(), Progress())
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
        self.data = self._data(loader, steps, key)
        self.curve = HeldOutCurve(
            self.loss, self._data(held_out, measured, f"{key}_held_out"), output_dir / "held_out.jsonl"
        )

    def _average(self) -> EMAModel | None:
        if (decay := self.config.ema_decay) is None:
            return None
        # Without min_decay it would be a shorter average at first, and in a short training throughout.
        return EMAModel(self.parameters.values(), decay=decay, min_decay=decay)

    def _data(self, loader: PairLoader, steps: list[list[Draw]], key: str) -> Data:
        def compute(draws: Sequence[Draw]) -> Tensor:
            return self.policy_forward.reference_errors(loader, draws)

        folder = self.output_dir / "reference_errors"
        return Data(loader, steps, cached_reference_errors(folder, key, steps, compute) if steps else [])

    @property
    def progress(self) -> Progress:
        """How far the training is."""
        return self.training.progress

    def train(self, tracker: Tracker, on_step: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Run from the latest checkpoint, or the start, to the end; returns the last step's metrics."""
        checkpoints, config = self.output_dir / "checkpoints", self.config
        if checkpoint := latest_checkpoint(checkpoints):
            self.training.load(checkpoint)
        metrics: dict[str, Any] = {}
        with _step_log(self.output_dir / "log.jsonl", self.progress.step, self.state.is_main_process) as log:
            for index in self._track(range(self.progress.step, len(self.data.steps))):
                if index % config.held_out_steps == 0:
                    self.curve.track(tracker, self.progress.step)
                metrics = self.step(index)
                if log is not None:
                    log.write(json.dumps(metrics) + "\n")
                    log.flush()
                tracker.log({f"train/{name}": value for name, value in metrics.items()}, self.progress.step)
                self._refuse_many_skipped(checkpoints)
                if self.progress.step % config.checkpoint_steps == 0 and self.progress.step < len(self.data.steps):
                    self.training.save(checkpoints)
                if on_step is not None:
                    on_step(metrics)
        if self.training.ema is not None:
            self.training.ema.copy_to(self.parameters.values())
        self.curve.track(tracker, self.progress.step)
        return metrics

    def step(self, index: int) -> dict[str, Any]:
        """One optimizer step and its metrics. One with a non-finite loss or gradient changes nothing but the counts."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.lr_factor(index + 1)
        summed = self.loss.accumulate(self.data, index)
        # What the next step reads comes from the disk while a GPU still works on this one.
        self.loss.prefetch(self.data, index + 1)
        sums, norm = self.parallel.step(summed)
        values = means(sums)
        finite_values = all(map(math.isfinite, values.values()))
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

    def _refuse_many_skipped(self, checkpoints: Path) -> None:
        if self.progress.skipped > self.config.max_skipped_steps:
            raise InputError(
                f"{self.progress.skipped} steps had a non-finite loss or gradient, so training stopped; "
                f"last good checkpoint: {latest_checkpoint(checkpoints) or 'none'}. "
                "Check the latents, or lower learning_rate or beta."
            )

    def _track(self, steps: range) -> Iterable[int]:
        return track(steps, "align", done=steps.start) if self.state.is_main_process else steps


def _step_log(path: Path, done: int, write: bool) -> AbstractContextManager[IO[str] | None]:
    """The log, open for the lines after step ``done``; lines of steps that will be replayed are dropped. None where
    this process does not ``write``.
    """
    if not write:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = read_lines(path)[:done] if path.exists() else []
    log = path.open("w")
    log.writelines(f"{line}\n" for line in kept)
    return log
