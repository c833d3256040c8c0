"""The loss of a whole step: its gradient in the parameters, and its metrics, from micro-batches over all processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor

from alignment.training.config import AlignConfig
from alignment.training.forward import PolicyForward
from alignment.training.loader import Batch, PairLoader, to_device
from alignment.training.loss import DPOOutput
from alignment.training.metrics import BUCKETS, METRICS, draw_sums
from alignment.training.objective import pair_beta, pair_weights, preference_loss
from alignment.training.policy import LiveReference
from alignment.training.schedule import Draw

Recorder = Callable[[Mapping[str, Tensor], float, float], Tensor]


@dataclass(frozen=True)
class Data:
    """The draws of every step, what makes their tensors, and the reference's errors (n, 2) on each step's draws."""

    loader: PairLoader
    steps: list[list[Draw]]
    reference: list[Tensor]


@dataclass(frozen=True)
class MicroBatch:
    """All that a pass over n draws reads: their tensors, the reference's errors (n, 2) and the pairs' weights (n,)."""

    batch: Batch
    reference_errors: Tensor
    weights: Tensor | None

    @property
    def pair_timesteps(self) -> Tensor:
        """Each draw's timestep (n,), which its two sides share."""
        return self.batch.timesteps[: len(self.reference_errors)]

    def tensors(self) -> dict[str, Tensor]:
        """The same as tensors alone, by name; how samples were drawn is in what the denoiser is told."""
        batch = self.batch
        weights = {} if self.weights is None else {"weights": self.weights}
        told = {f"told.{name}": value for name, value in (batch.told or {}).items()}
        return {
            "latents": batch.latents, "noise": batch.noise, "timesteps": batch.timesteps,
            "prompt_embeds": batch.prompt_embeds, "reference_errors": self.reference_errors, **weights, **told,
        }  # fmt: skip

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "MicroBatch":
        """From :meth:`tensors`."""
        told = {name.removeprefix("told."): value for name, value in tensors.items() if name.startswith("told.")}
        names = ("latents", "noise", "timesteps", "prompt_embeds")
        batch = Batch(**{name: tensors[name] for name in names}, settings=[], told=told)
        return cls(batch, tensors["reference_errors"], tensors.get("weights"))


class StepLoss:
    """The loss of steps; ``live_reference`` is there where the anchor needs the reference's own predictions.

    Attributes:
        recorder: Runs :meth:`from_tensors` in its place (None: each pass is run as it is).
    """

    def __init__(self, policy_forward: PolicyForward, live_reference: LiveReference | None):
        self.policy_forward, self.live_reference = policy_forward, live_reference
        self.generator, self.config = policy_forward.generator, policy_forward.config
        device: Any = policy_forward.state.device
        self.device: torch.device = device
        self.recorder: Recorder | None = None
        self._ahead: tuple[Data, int, MicroBatch] | None = None

    def accumulate(self, data: Data, index: int) -> Tensor:
        """Leave the gradient of step ``index``'s mean loss, over all processes, in the parameters.

        Returns sums over the step's draws, by timestep bucket (:func:`alignment.training.metrics.draw_sums`).
        """
        draws, sums, parallel = data.steps[index], self._empty(), self.policy_forward.parallel
        passes = self.policy_forward.passes(len(draws))
        for number, (part, counts) in enumerate(passes, 1):
            micro = self._prefetched(data, index) if number == 1 else None
            micro = micro or self._micro_batch(data, index, part)
            # A micro-batch counts by its fraction of the global batch, whatever the split.
            fraction = len(draws[part]) / len(draws) if counts else 0.0
            # Back to the loss of one draw, and to this process's own.
            scale = len(draws) / parallel.scale
            if self.recorder is not None and micro.batch.told is not None:
                found = self.recorder(micro.tensors(), fraction, scale)
            else:
                found = self._pass(micro, fraction, scale, last=number == len(passes))
            if counts:
                sums += found
        if not passes:
            # The others wait for this process's gradient, which is nothing.
            parallel.sum_gradients()
        return reduce(sums, "sum")

    def prefetch(self, data: Data, index: int) -> None:
        """On a GPU, load what the first pass of step ``index`` reads, if there is one."""
        passes = self.policy_forward.passes(len(data.steps[index])) if index < len(data.steps) else []
        if self.device.type == "cuda" and passes:
            self._ahead = data, index, self._micro_batch(data, index, passes[0][0])

    def _prefetched(self, data: Data, index: int) -> MicroBatch | None:
        ahead, self._ahead = self._ahead, None
        return ahead[2] if ahead is not None and ahead[0] is data and ahead[1] == index else None

    def from_tensors(self, tensors: Mapping[str, Tensor], fraction: float, scale: float) -> Tensor:
        """A pass of one process as a function of :meth:`MicroBatch.tensors` and two constants: it adds its gradient and
        returns its sums, touches nothing that is on the CPU and waits for nothing.
        """
        return self._pass(MicroBatch.of(tensors), fraction, scale, last=False)

    def _pass(self, micro: MicroBatch, fraction: float, scale: float, *, last: bool) -> Tensor:
        """Add the gradient of ``fraction`` of a micro-batch's loss; its sums, with gradients times ``scale``."""
        prediction, target = self.policy_forward.predict(micro.batch), self.policy_forward.target(micro.batch)
        anchor = None
        if self.live_reference is not None:
            with self.live_reference():
                anchor = self.policy_forward.predict(micro.batch)
        # It is no leaf, and its gradient says which timesteps the weights hear.
        prediction.retain_grad()
        output, beta = self._loss(micro, prediction, target, self.config, anchor)
        self.policy_forward.parallel.backward(output.loss * fraction, last=last)
        # The norm over both sides of a pair.
        reached: Any = prediction.grad
        gradients = reached.float().flatten(1).norm(dim=1).reshape(2, -1).norm(dim=0) * scale
        return self._sums(output, micro, beta, gradients)

    @torch.no_grad()
    def measure(self, data: Data, index: int) -> Tensor:
        """The same sums, of the DPO loss alone, and no gradient."""
        config = replace(self.config, anchor_weight=0.0, sft_weight=0.0, sdpo_mu=None)
        draws, sums = data.steps[index], self._empty()
        for part, counts in self.policy_forward.passes(len(draws)):
            micro = self._micro_batch(data, index, part)
            prediction, target = self.policy_forward.predict(micro.batch), self.policy_forward.target(micro.batch)
            output, beta = self._loss(micro, prediction, target, config)
            if counts:
                sums += self._sums(output, micro, beta, None)
        return reduce(sums, "sum")

    def _micro_batch(self, data: Data, index: int, part: slice) -> MicroBatch:
        draws, device = data.steps[index][part], self.device
        weights = pair_weights([data.loader.pairs[draw.pair] for draw in draws], self.config)
        return MicroBatch(
            data.loader.load(draws),
            to_device(data.reference[index][part], device),
            None if weights is None else to_device(weights, device),
        )

    def _loss(
        self, micro: MicroBatch, prediction: Tensor, target: Tensor, config: AlignConfig, anchor: Tensor | None = None
    ) -> tuple[DPOOutput, Tensor]:
        """The loss of a micro-batch's n draws, and the β (n,) in force; ``anchor`` are the reference's predictions."""
        beta = pair_beta(self.generator, micro.pair_timesteps, config)
        output = preference_loss(
            prediction, target, micro.reference_errors, beta=beta, weights=micro.weights, config=config,
            reference_prediction=anchor,
        )  # fmt: skip
        return output, beta

    def _sums(self, output: DPOOutput, micro: MicroBatch, beta: Tensor, gradients: Tensor | None) -> Tensor:
        return draw_sums(output, micro.pair_timesteps, beta, self.generator.num_train_timesteps, gradients)

    def _empty(self) -> Tensor:
        return torch.zeros(BUCKETS, 1 + len(METRICS), device=self.device)
