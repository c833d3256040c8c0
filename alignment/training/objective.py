"""What a micro-batch of draws adds to the loss: Diffusion-DPO as :class:`AlignConfig` wants it.

The reference is two cached numbers for each draw; only the anchor, which holds predictions and not errors together,
needs the reference's own predictions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from alignment.training.config import AlignConfig
from alignment.training.loss import DPOOutput, dpo_from_predictions
from generators.base import Generator
from videoduet.records import PreferencePair

MIN_SNR_GAMMA = 5.0
VIDEODPO_SCORE = 0.72
"""VideoDPO weights a pair of probability p by (0.72 / p)^α: rare kinds of pairs count more (Liu et al. 2024)."""


def preference_loss(
    prediction: Tensor,
    target: Tensor,
    reference_errors: Tensor,
    *,
    beta: Tensor,
    weights: Tensor | None,
    config: AlignConfig,
    reference_prediction: Tensor | None = None,
) -> DPOOutput:
    """The loss of n draws from ``prediction`` and ``target`` (2n, C, T, h, w), the chosen first, then the rejected:
    :func:`alignment.training.loss.dpo_from_predictions` with the options of ``config``.

    ``reference_errors`` (n, 2) are on the chosen and the rejected; ``beta`` (n,) is from :func:`pair_beta`, ``weights``
    (n,) from :func:`pair_weights`. ``reference_prediction`` is needed where ``config.anchor_weight`` is not 0.
    """
    return dpo_from_predictions(
        prediction,
        target,
        reference_errors,
        beta=beta,
        objective=config.objective,
        weights=weights,
        label_smoothing=config.label_smoothing,
        reduction=config.reduction,
        sdpo_mu=config.sdpo_mu,
        # Each pair by itself, so that neither micro-batches nor processes change the gradient.
        sdpo_per_pair=True,
        anchor_weight=config.anchor_weight,
        sft_weight=config.sft_weight,
        reference=reference_prediction,
    )


def pair_weights(pairs: Sequence[PreferencePair], config: AlignConfig) -> Tensor | None:
    """What each pair's loss is multiplied by (n,); None where all count alike."""
    if config.pair_weights == "margin":
        return torch.tensor([pair.margin for pair in pairs])
    if config.pair_weights == "score":
        return torch.tensor([(VIDEODPO_SCORE / pair.score) ** config.score_power for pair in pairs])
    return None


def pair_beta(generator: Generator, timesteps: Tensor, config: AlignConfig) -> Tensor:
    """β of each draw (n,), float32: ``config.beta`` times Γ(λ_t) and the schedule at its timestep."""
    signal, noise, x0_factor = signal_and_noise(generator, timesteps)
    beta = torch.full_like(signal, config.beta)
    if config.timestep_weights == "min_snr":
        beta = beta * (signal / noise).square().clamp(max=MIN_SNR_GAMMA) * x0_factor
    if config.beta_schedule == "(1-t)^2":
        beta = beta * signal.square()
    # Where no noise is left, or no signal, the weight vanishes; the loss asks for a positive β.
    return beta.clamp(min=torch.finfo(torch.float32).tiny)


def signal_and_noise(generator: Generator, timesteps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(α_t, σ_t, x_0 error per squared error of the prediction), each (n,) float32, of x_t = α_t·x_0 + σ_t·ε.

    Read from the generator itself: x_t and its target y = a·x_0 + b·ε are linear, so x_0 = (b·x_t - σ·y) / (b·α - σ·a),
    whatever is predicted. For ε that factor is 1 / SNR, for v 1 - ᾱ, for the flow's velocity σ².
    """
    one = torch.ones(len(timesteps), 1, 1, 1, 1, device=timesteps.device)
    zero = torch.zeros_like(one)
    alpha, sigma = (generator.add_noise(*parts, timesteps).flatten() for parts in ((one, zero), (zero, one)))
    a, b = (generator.target(*parts, timesteps).flatten() for parts in ((one, zero), (zero, one)))
    return alpha, sigma, (sigma / (b * alpha - sigma * a)).square()
