"""What fine-tuning on own samples is measured with."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import own_samples


class Linear(SimpleNamespace):
    """A 'generator' whose denoiser is one number that multiplies its input; there is no noise, and 0.3 is right."""

    def add_noise(self, latents, noise, timesteps):
        return latents

    def target(self, latents, noise, timesteps):
        return 0.3 * latents

    def predict(self, noisy, timesteps, embeds, settings):
        return self.denoiser.weight * noisy


def test_all_weights_learn_to_predict_the_samples(monkeypatch):
    monkeypatch.setattr(own_samples, "RATE", 0.02)
    generator = Linear(denoiser=nn.Linear(1, 1, bias=False), settings=None)
    nn.init.zeros_(generator.denoiser.weight)
    latents = torch.randn(4, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    own_samples.fine_tune(generator, latents, torch.zeros(4, 1, 1), seed=0)
    assert generator.denoiser.weight.item() == pytest.approx(0.3, abs=0.05)
    assert not generator.denoiser.training and not generator.denoiser.weight.requires_grad


def test_a_row_tells_gains_apart_from_the_spread_within_a_prompt():
    before = np.zeros((3, 2, 3))
    scores = before + np.array([0.1, 0.2, 0.6])
    scores[:, 1] += 0.2
    spatial, temporal, alignment, mean, best, deviation = own_samples.row(scores, before)
    assert (spatial, temporal, alignment) == (
        "0.200 (+0.200 ± 0.000)", "0.300 (+0.300 ± 0.000)", "0.700 (+0.700 ± 0.000)"
    )  # fmt: skip
    assert (mean, best, deviation) == ("0.400", "0.500", "0.100")
