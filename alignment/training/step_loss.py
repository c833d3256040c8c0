"""The loss of a whole step: its gradient in the parameters, and its metrics, from micro-batches over all processes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from accelerate.utils import reduce
from torch import Tensor

from alignment.training.config import AlignConfig
from alignment.training.forward import PolicyForward
from alignment.training.loader import PairLoader
from alignment.training.loss import DPOOutput
from alignment.training.metrics import draw_sums, empty_sums
from alignment.training.objective import pair_beta, pair_weights, preference_loss
from alignment.training.policy import LiveReference
from alignment.training.schedule import Draw


@dataclass(frozen=True)
class Data:
    """The draws of every step, what makes their tensors, and the reference's errors (n, 2) on each step's draws."""

    loader: PairLoader
    steps: list[list[Draw]]
    reference: list[Tensor]


class StepLoss:
    """The loss of steps; ``live_reference`` is there where the anchor needs the reference's own predictions."""

    def __init__(self, policy_forward: PolicyForward, live_reference: LiveReference | None):
        self.policy_forward, self.live_reference = policy_forward, live_reference
        self.generator, self.config, self.state = policy_forward.generator, policy_forward.config, policy_forward.state

    def accumulate(self, data: Data, index: int) -> Tensor:
        """Leave the gradient of step ``index``'s mean loss, over all processes, in the parameters.

        Returns sums over the step's draws, by timestep bucket (:func:`alignment.training.metrics.draw_sums`).
        """
        draws, sums, parallel = data.steps[index], self._empty(), self.policy_forward.parallel
        passes = self.policy_forward.passes(len(draws))
        for number, (part, counts) in enumerate(passes, 1):
            batch, prediction, target = self.policy_forward.on(data.loader, draws[part])
            anchor = None
            if self.live_reference is not None:
                with self.live_reference():
                    anchor = self.policy_forward.predict(batch)
            # It is no leaf, and its gradient says which timesteps the weights hear.
            prediction.retain_grad()
            micro = _MicroBatch(draws[part], batch.timesteps, prediction, target, data.reference[index][part], anchor)
            output, beta = self._loss(data, micro, self.config)
            # A micro-batch counts by its fraction of the global batch, whatever the split.
            fraction = len(draws[part]) / len(draws) if counts else 0.0
            parallel.backward(output.loss * fraction, last=number == len(passes))
            # Back to the loss of one draw, and to this process's own: the norm over both sides of a pair.
            scale = len(draws) / parallel.scale
            gradients = prediction.grad.float().flatten(1).norm(dim=1).reshape(2, -1).norm(dim=0) * scale
            if counts:
                sums += self._sums(output, micro, beta, gradients)
        if not passes:
            # The others wait for this process's gradient, which is nothing.
            parallel.sum_gradients()
        return reduce(sums, "sum")

    @torch.no_grad()
    def measure(self, data: Data, index: int) -> Tensor:
        """The same sums, of the DPO loss alone, and no gradient."""
        config = replace(self.config, anchor_weight=0.0, sft_weight=0.0, sdpo_mu=None)
        draws, sums = data.steps[index], self._empty()
        for part, counts in self.policy_forward.passes(len(draws)):
            batch, prediction, target = self.policy_forward.on(data.loader, draws[part])
            micro = _MicroBatch(draws[part], batch.timesteps, prediction, target, data.reference[index][part], None)
            output, beta = self._loss(data, micro, config)
            if counts:
                sums += self._sums(output, micro, beta, None)
        return reduce(sums, "sum")

    def _loss(self, data: Data, micro: "_MicroBatch", config: AlignConfig) -> tuple[DPOOutput, Tensor]:
        """The loss of a micro-batch's n draws, and the β (n,) in force."""
        weights = pair_weights([data.loader.pairs[draw.pair] for draw in micro.draws], config)
        beta = pair_beta(self.generator, micro.pair_timesteps, config)
        output = preference_loss(
            micro.prediction,
            micro.target,
            micro.reference_errors.to(self.state.device),
            beta=beta,
            weights=None if weights is None else weights.to(self.state.device),
            config=config,
            reference_prediction=micro.reference_prediction,
        )
        return output, beta

    def _sums(self, output: DPOOutput, micro: "_MicroBatch", beta: Tensor, gradients: Tensor | None) -> Tensor:
        return draw_sums(output, micro.pair_timesteps, beta, self.generator.num_train_timesteps, gradients)

    def _empty(self) -> Tensor:
        return empty_sums().float().to(self.state.device)


@dataclass(frozen=True)
class _MicroBatch:
    """n draws with what a pass made of them: ``timesteps`` (2n,), predictions and targets (2n, C, T, h, w), the
    reference's errors (n, 2).
    """

    draws: Sequence[Draw]
    timesteps: Tensor
    prediction: Tensor
    target: Tensor
    reference_errors: Tensor
    reference_prediction: Tensor | None

    @property
    def pair_timesteps(self) -> Tensor:
        """Each draw's timestep (n,), which its two sides share."""
        return self.timesteps[: len(self.draws)]
