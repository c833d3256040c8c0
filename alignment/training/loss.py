"""The Diffusion-DPO loss, for any generator: ε, v, x_0, flow and consistency models differ only in their targets.

Wallace et al., "Diffusion Model Alignment Using Direct Preference Optimization" (2023), eq. 14, with
e = squared error of a prediction, w the chosen and l the rejected video, both noised alike::

    logit = -(beta / 2) * [(e_theta_w - e_ref_w) - (e_theta_l - e_ref_l)]
    loss  = -log sigmoid(logit)

``beta`` absorbs the paper's T * omega(lambda_t) and, because e is by default a *mean* over all dimensions, the 1/D: it
is the ``beta_dpo`` of the authors' code (2000 for SD 1.5, 5000 for SDXL). The diffusers research script leaves out the
half, so its ``beta_dpo`` is half of this ``beta``. With ``reduction="sum"`` use beta / D.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment.training.config import Objective, Reduction


@dataclass(frozen=True)
class DPOOutput:
    """What the loss knows about a batch of B pairs; all but ``loss`` are detached.

    ``loss`` is a scalar. ``implicit_accuracy`` in [0, 1] is the fraction of pairs whose logit is positive, ties
    counting ½. ``logits`` (B,) are scaled by beta/2. ``chosen_error_delta`` and ``rejected_error_delta`` (B,) are
    e_theta - e_ref: a healthy run lowers the first, and a rising accuracy with *both* rising is the known way to
    diverge. ``losses`` (B,) are the weighted DPO losses of the single pairs, without the anchor and SFT terms.
    """

    loss: Tensor
    implicit_accuracy: Tensor
    logits: Tensor
    chosen_error_delta: Tensor
    rejected_error_delta: Tensor
    losses: Tensor


def squared_error(prediction: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Squared error per item (B,) over *all* other dimensions of (B, ...), in float32 (float64 where both are float64).

    Half-precision inputs are widened first: a logit is a small difference of errors times thousands.

    Raises ValueError where the shapes differ, the rank is below 2, or ``reduction`` is unknown.
    """
    if prediction.shape != target.shape or prediction.ndim < 2:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have one shape of rank >= 2"
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
    square = (_wide(prediction) - _wide(target)).square().flatten(1)
    return square.mean(1) if reduction == "mean" else square.sum(1)


def dpo_from_errors(
    policy_chosen_error: Tensor,
    policy_rejected_error: Tensor,
    reference_chosen_error: Tensor,
    reference_rejected_error: Tensor,
    *,
    beta: float | Tensor,
    objective: Objective = "sigmoid",
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> DPOOutput:
    """The loss from squared errors (B,), so that a reference can be two cached numbers per draw.

    ``beta`` > 0 is a number or one per pair (B,). With z the logit, a pair's loss is, by ``objective``:

    - ``sigmoid``: -log sigmoid(z);
    - ``hinge``: max(0, 1 - z);
    - ``ipo``: ((2 z - 1) / beta)^2, the (m - 1/(2 b))^2 of Azar et al. (2023) with m = 2 z / beta and b = beta / 2.

    ``weights`` (B,) multiply the pairs' losses, whose sum is divided by B (not by the sum of the weights).
    ``label_smoothing`` in [0, 0.5) is the probability that a label is wrong: the loss becomes the expectation over the
    flip.

    Raises ValueError for a beta that is not positive, an unknown objective, a label smoothing out of range or shapes
    other than (B,).
    """
    errors = (policy_chosen_error, policy_rejected_error, reference_chosen_error, reference_rejected_error)
    if any(error.ndim != 1 or error.shape != errors[0].shape for error in errors):
        raise ValueError(f"errors must all have one shape (B,), not {[tuple(error.shape) for error in errors]}")
    # A GPU's numbers are not waited for.
    if not (isinstance(beta, Tensor) and not beta.is_cpu) and not bool((torch.as_tensor(beta) > 0).all()):
        raise ValueError(f"beta must be positive, not {beta}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5), not {label_smoothing}")
    if weights is not None and weights.shape != errors[0].shape:
        raise ValueError(f"weights must have the shape {tuple(errors[0].shape)}, not {tuple(weights.shape)}")

    policy_chosen, policy_rejected, reference_chosen, reference_rejected = (_wide(error) for error in errors)
    chosen_delta = policy_chosen - reference_chosen
    rejected_delta = policy_rejected - reference_rejected
    logits = -0.5 * beta * (chosen_delta - rejected_delta)
    losses = _objective_loss(logits, beta, objective)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * _objective_loss(-logits, beta, objective)
    if weights is not None:
        losses = losses * weights
    hits = (logits > 0).to(logits.dtype) + 0.5 * (logits == 0).to(logits.dtype)
    return DPOOutput(
        loss=losses.mean(),
        implicit_accuracy=hits.mean(),
        logits=logits.detach(),
        chosen_error_delta=chosen_delta.detach(),
        rejected_error_delta=rejected_delta.detach(),
        losses=losses.detach(),
    )


def dpo_from_predictions(
    policy: Tensor,
    target: Tensor,
    reference_errors: Tensor,
    *,
    beta: float | Tensor,
    objective: Objective = "sigmoid",
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    sdpo_mu: float | None = None,
    sdpo_per_pair: bool = False,
    anchor_weight: float = 0.0,
    sft_weight: float = 0.0,
    reference: Tensor | None = None,
) -> DPOOutput:
    """The whole loss of n pairs, Diffusion-DPO and its safeguards: training and :func:`diffusion_dpo_loss` are this.

    ``policy`` and ``target`` (2n, ...) of any rank >= 2 are predictions and what they should be, the chosen first, then
    the rejected; ``reference_errors`` (n, 2) the reference's squared errors on the chosen and the rejected, of the same
    ``reduction`` over all non-batch dimensions. ``beta``, ``objective``, ``weights`` and ``label_smoothing`` are those
    of :func:`dpo_from_errors`. Optional safeguards:

    - ``sdpo_mu`` in [0, 1] scales the gradient through the rejected error by :func:`sdpo_scale` (the value stays),
      with ``sdpo_per_pair`` for each pair by itself;
    - ``anchor_weight`` adds weight * ½ * [MSE(policy, reference) of chosen + of rejected]; it needs ``reference``, the
      reference's predictions (2n, ...);
    - ``sft_weight`` adds weight * (mean squared error of the policy on the chosen), over all dimensions.

    Raises ValueError as :func:`squared_error`, :func:`sdpo_scale` and :func:`dpo_from_errors` do.
    """
    # Both sides in one reduction, as the reference's errors are: a policy equal to it has equal errors to the last bit.
    chosen_error, rejected_error = squared_error(policy, target, reduction).chunk(2)
    (policy_chosen, policy_rejected), (target_chosen, target_rejected) = policy.chunk(2), target.chunk(2)
    if sdpo_mu is not None:
        scale = sdpo_scale(
            policy_chosen, policy_rejected, target_chosen, target_rejected, mu=sdpo_mu, per_pair=sdpo_per_pair
        )
        rejected_error = scale_gradient(rejected_error, scale)
    output = dpo_from_errors(
        chosen_error,
        rejected_error,
        *reference_errors.unbind(1),
        beta=beta,
        objective=objective,
        weights=weights,
        label_smoothing=label_smoothing,
    )
    loss = output.loss
    if anchor_weight:
        if reference is None:
            raise ValueError("anchor_weight needs the reference's predictions")
        loss = loss + anchor_weight * squared_error(policy, reference).mean()
    if sft_weight:
        loss = loss + sft_weight * squared_error(policy_chosen, target_chosen).mean()
    return replace(output, loss=loss)


def diffusion_dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    target_chosen: Tensor,
    target_rejected: Tensor,
    *,
    beta: float | Tensor,
    objective: Objective = "sigmoid",
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    sdpo_mu: float | None = None,
    anchor_weight: float = 0.0,
    sft_weight: float = 0.0,
) -> DPOOutput:
    """The loss from predictions of policy and reference and their targets (B, ...) of any rank >= 2, the batch first.

    What the options mean is said at :func:`dpo_from_predictions`, which this is; ``sdpo_mu`` acts with one scale for
    the whole batch, as in the released code of Diffusion-SDPO. No gradient goes through the reference.

    Raises ValueError as :func:`dpo_from_predictions` does, and where the six shapes are not one.
    """
    sides = (policy_chosen, policy_rejected, reference_chosen, reference_rejected, target_chosen, target_rejected)
    if any(side.shape != policy_chosen.shape for side in sides):
        raise ValueError(f"predictions and targets must have one shape, not {[tuple(side.shape) for side in sides]}")
    policy, reference, target = (torch.cat(pair) for pair in zip(sides[::2], sides[1::2], strict=True))
    reference = reference.detach()
    return dpo_from_predictions(
        policy,
        target,
        squared_error(reference, target, reduction).detach().reshape(2, -1).T,
        beta=beta,
        objective=objective,
        weights=weights,
        label_smoothing=label_smoothing,
        reduction=reduction,
        sdpo_mu=sdpo_mu,
        anchor_weight=anchor_weight,
        sft_weight=sft_weight,
        reference=reference,
    )


def sdpo_scale(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    target_chosen: Tensor,
    target_rejected: Tensor,
    *,
    mu: float = 0.9,
    per_pair: bool = False,
) -> Tensor:
    """Diffusion-SDPO's safeguard: how much of the loser's gradient the winner can bear, in [0, 1], detached.

    With g_w, g_l the gradients of the mean errors with respect to the predictions (B, ...), the factor is
    min(1, (1 - mu) ||g_w||² / <g_w, g_l>) where the two are aligned and 1 where they are not: to first order in the
    space of predictions, the step then never raises the chosen error. It is one scalar for the whole batch, as in the
    released code, or with ``per_pair`` one for each pair (B,), which no company changes: then eight pairs at once give
    the gradient of eight times one.

    Raises ValueError for ``mu`` outside [0, 1].
    """
    if not 0 <= mu <= 1:
        raise ValueError(f"sdpo mu must be in [0, 1], not {mu}")
    size = policy_chosen[0].numel() if per_pair else policy_chosen.numel()
    chosen = (_wide(policy_chosen) - _wide(target_chosen)).detach() * (2 / size)
    rejected = (_wide(policy_rejected) - _wide(target_rejected)).detach() * (2 / size)
    kept = 1 if per_pair else 0
    alignment = (chosen * rejected).flatten(kept).sum(-1)
    # The 1e-9 is the released code's: below it in a nearly orthogonal batch, the scale errs on the safe side.
    scale = ((1 - mu) * chosen.square().flatten(kept).sum(-1) / (alignment + 1e-9)).clamp(0, 1)
    return torch.where(alignment > 0, scale, torch.ones_like(scale))


def scale_gradient(error: Tensor, scale: Tensor) -> Tensor:
    """``error``, to the last bit, whose gradient is multiplied by ``scale``."""
    fixed = error.detach()
    return fixed + scale * (error - fixed)


def _objective_loss(logits: Tensor, beta: float | Tensor, objective: Objective) -> Tensor:
    if objective == "sigmoid":
        return -F.logsigmoid(logits)
    if objective == "hinge":
        return F.relu(1 - logits)
    if objective == "ipo":
        return ((2 * logits - 1) / beta).square()
    raise ValueError(f"objective must be 'sigmoid', 'hinge' or 'ipo', not {objective!r}")


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
