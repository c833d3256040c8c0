"""The loss of a micro-batch against the one of whole tensors, and weights and betas against their closed forms."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from small_generator import SmallGenerator

from alignment.training.config import AlignConfig
from alignment.training.loss import diffusion_dpo_loss, sdpo_scale, squared_error
from alignment.training.objective import pair_beta, pair_weights, preference_loss, signal_and_noise
from generators.families.flow import FlowGenerator
from videoduet.records import PreferencePair

PLAIN = AlignConfig(beta=300.0)
TIMESTEPS = torch.tensor([0, 1, 250, 700, 998, 999])


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    names = ("policy", "reference", "target")
    made = {name: torch.randn(6, 4, 2, 3, 5, generator=rng, dtype=torch.float64) for name in names}
    made["policy"] = (made["reference"] + 0.05 * made["policy"]).requires_grad_(True)
    return made


def both_losses(tensors, config: AlignConfig):
    """Ours for all three draws at once, and the whole-tensor loss of each draw alone."""
    policy, reference, target = tensors["policy"], tensors["reference"], tensors["target"]
    beta = torch.full((3,), config.beta, dtype=torch.float64)
    errors = squared_error(reference, target).reshape(2, -1).T
    ours = preference_loss(
        policy, target, errors, beta=beta, weights=None, config=config, reference_prediction=reference
    )
    rows = [[x[i : i + 1] for x in (*policy.chunk(2), *reference.chunk(2), *target.chunk(2))] for i in range(3)]
    settings = {name: getattr(config, name) for name in ("objective", "label_smoothing", "sdpo_mu")}
    weights = {name: getattr(config, name) for name in ("anchor_weight", "sft_weight")}
    return ours, [diffusion_dpo_loss(*row, beta=config.beta, **settings, **weights) for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"objective": "hinge"},
        {"objective": "ipo"},
        {"label_smoothing": 0.1},
        {"sdpo_mu": 0.9},
        {"anchor_weight": 2.0},
        {"sft_weight": 0.5},
        {"sdpo_mu": 0.5, "anchor_weight": 1.0, "sft_weight": 0.3, "label_smoothing": 0.2},
    ],
)
def test_cached_errors_give_the_loss_of_whole_predictions(tensors, change):
    """In value and gradient; and three pairs together are three pairs alone, with every safeguard."""
    ours, theirs = both_losses(tensors, replace(PLAIN, **change))
    expected = sum(output.loss for output in theirs) / 3
    torch.testing.assert_close(ours.loss, expected, atol=1e-12, rtol=1e-12)
    mine, reference = (torch.autograd.grad(loss, tensors["policy"])[0] for loss in (ours.loss, expected))
    torch.testing.assert_close(mine, reference, atol=1e-13, rtol=1e-9)
    assert ours.implicit_accuracy == sum(output.implicit_accuracy for output in theirs) / 3


def test_sdpo_per_pair_is_each_pair_alone(tensors):
    sides = [x.detach() for name in ("policy", "target") for x in tensors[name].chunk(2)]
    scales = sdpo_scale(*sides, mu=0.9, per_pair=True)
    alone = [sdpo_scale(*(side[i : i + 1] for side in sides), mu=0.9) for i in range(3)]
    torch.testing.assert_close(scales, torch.stack(alone), atol=1e-9, rtol=1e-9)


def test_a_safeguard_changes_no_bit_of_a_start(tensors):
    reference, target = tensors["reference"].float(), tensors["target"].float()
    errors = squared_error(reference, target).reshape(2, -1).T
    config = replace(PLAIN, sdpo_mu=0.9)
    output = preference_loss(reference, target, errors, beta=torch.full((3,), 300.0), weights=None, config=config)
    assert output.implicit_accuracy == 0.5 and not output.logits.any()


def test_an_anchor_needs_the_reference_itself(tensors):
    errors, config = torch.ones(3, 2), replace(PLAIN, anchor_weight=1.0)
    with pytest.raises(ValueError, match="reference's predictions"):
        preference_loss(
            tensors["policy"], tensors["target"], errors, beta=torch.full((3,), 300.0), weights=None, config=config
        )


def test_the_released_loss_is_what_training_makes_with_one_scale_for_all(tensors):
    """:func:`diffusion_dpo_loss` and training differ in nothing but whose scale Diffusion-SDPO's safeguard is."""
    policy, reference, target = tensors["policy"], tensors["reference"], tensors["target"]
    sides = [side for tensor in (policy, reference, target) for side in tensor.chunk(2)]
    errors = squared_error(reference, target).reshape(2, -1).T
    beta = torch.full((3,), 300.0, dtype=torch.float64)
    for change in ({}, {"anchor_weight": 2.0, "sft_weight": 0.5, "label_smoothing": 0.1}):
        config = replace(PLAIN, **change)
        ours = preference_loss(
            policy, target, errors, beta=beta, weights=None, config=config, reference_prediction=reference
        )
        assert torch.equal(ours.loss, diffusion_dpo_loss(*sides, beta=beta, **change).loss)


def test_weights():
    pair = PreferencePair(
        prompt_id="p", chosen_id="w", rejected_id="l", chosen_round=0, rejected_round=0, margin=0.25, agreement=1.0,
        comparison_ids=(), score=0.36,
    )  # fmt: skip
    pairs = [pair, replace(pair, margin=1.0, score=0.72)]
    assert pair_weights(pairs, PLAIN) is None
    assert pair_weights(pairs, replace(PLAIN, pair_weights="margin")).tolist() == [0.25, 1.0]
    by_score = pair_weights(pairs, replace(PLAIN, pair_weights="score", score_power=2.0))
    assert by_score.tolist() == pytest.approx([4.0, 1.0])


class Velocity(SmallGenerator):
    def target(self, latents, noise, timesteps):
        return DDPMScheduler().get_velocity(latents, noise, timesteps)


class Sample(SmallGenerator):
    def target(self, latents, noise, timesteps):
        return latents


class Flow(SmallGenerator):
    add_noise, target = FlowGenerator.add_noise, FlowGenerator.target


def test_signal_and_noise_of_every_parameterisation():
    signal = DDPMScheduler().alphas_cumprod[TIMESTEPS]
    for generator, factor in ((SmallGenerator(), (1 - signal) / signal), (Velocity(), 1 - signal), (Sample(), None)):
        alpha, sigma, x0 = signal_and_noise(generator, TIMESTEPS)
        torch.testing.assert_close(alpha.square(), signal)
        torch.testing.assert_close(sigma.square(), 1 - signal)
        torch.testing.assert_close(x0, torch.ones(6) if factor is None else factor, rtol=1e-4, atol=0)
    alpha, sigma, x0 = signal_and_noise(Flow(), TIMESTEPS)
    torch.testing.assert_close(sigma, TIMESTEPS / 1000)
    torch.testing.assert_close(alpha, 1 - TIMESTEPS / 1000)
    torch.testing.assert_close(x0, sigma.square())


def test_a_prediction_s_error_is_its_x0_error_in_another_unit():
    rng = torch.Generator().manual_seed(0)
    clean, noise, off = (torch.randn(6, 4, 2, 3, 5, generator=rng, dtype=torch.float64) for _ in range(3))
    for generator in (SmallGenerator(), Velocity(), Flow()):
        timesteps = torch.tensor([10, 100, 300, 600, 800, 990])
        noisy, target = generator.add_noise(clean, noise, timesteps), generator.target(clean, noise, timesteps)
        alpha, sigma, factor = (x.double().reshape(-1, 1, 1, 1, 1) for x in signal_and_noise(generator, timesteps))
        prediction = target + off
        if type(generator) is SmallGenerator:
            guess = (noisy - sigma * prediction) / alpha
        elif type(generator) is Velocity:
            guess = alpha * noisy - sigma * prediction
        else:
            guess = noisy - sigma * prediction
        expected = factor.flatten() * squared_error(prediction, target)
        torch.testing.assert_close(squared_error(guess, clean), expected, rtol=1e-3, atol=0)


def test_beta_by_timestep():
    constant = pair_beta(SmallGenerator(), TIMESTEPS, PLAIN)
    assert constant.tolist() == [300.0] * 6
    snr = DDPMScheduler().alphas_cumprod[TIMESTEPS] / (1 - DDPMScheduler().alphas_cumprod[TIMESTEPS])
    min_snr = replace(PLAIN, timestep_weights="min_snr")
    # Hang et al. (2023): min(SNR, γ) / SNR for ε, min(SNR, γ) / (SNR + 1) for v.
    torch.testing.assert_close(
        pair_beta(SmallGenerator(), TIMESTEPS, min_snr), 300 * snr.clamp(max=5) / snr, rtol=1e-3, atol=0
    )
    torch.testing.assert_close(
        pair_beta(Velocity(), TIMESTEPS, min_snr), 300 * snr.clamp(max=5) / (snr + 1), rtol=1e-3, atol=0
    )
    falling = pair_beta(Flow(), torch.tensor([0, 500, 1000]), replace(PLAIN, beta_schedule="(1-t)^2"))
    assert falling[:2].tolist() == pytest.approx([300.0, 75.0])
    # The loss asks for a positive beta; where no signal is left this one only is in name.
    assert 0 < falling[2] < 1e-30
    assert (pair_beta(Flow(), torch.tensor([0, 500, 1000]), min_snr) > 0).all()
