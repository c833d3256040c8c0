"""What makes a base of the student: training on given clips, ties in what captions say, spoilt clips."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from shapes_world.build_base import TIES, blocky, confused, fit
from shapes_world.world import all_scenes


class Linear(SimpleNamespace):
    """A 'generator' whose denoiser is one number that multiplies its input; there is no noise, and 0.3 is right."""

    def add_noise(self, latents, noise, timesteps):
        self.timesteps |= set(timesteps.tolist())
        return latents

    def target(self, latents, noise, timesteps):
        return 0.3 * latents

    def predict(self, noisy, timesteps, embeds, settings):
        return self.denoiser.weight * noisy


@pytest.mark.parametrize("sampled", (0.0, 1.0))
def test_all_weights_learn_to_predict_the_clips(sampled):
    generator = Linear(denoiser=nn.Linear(1, 1, bias=False), settings=SimpleNamespace(steps=4), timesteps=set())
    nn.init.zeros_(generator.denoiser.weight)
    latents = torch.randn(4, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    pairs = torch.arange(4).repeat(2, 1).T
    fit(
        generator, latents, torch.zeros(4, 1, 1), pairs, steps=60, batch_size=8, rate=0.02, seed=0, sampled=sampled,
        what="a test",
    )  # fmt: skip
    assert generator.denoiser.weight.item() == pytest.approx(0.3, abs=0.05)
    assert not generator.denoiser.training and not generator.denoiser.weight.requires_grad
    assert (generator.timesteps == {999, 759, 519, 279}) == (sampled == 1)


def test_captions_say_another_value_in_exactly_half_of_the_cases():
    scenes = all_scenes()
    pairs = [(scenes[shown], scenes[said]) for shown, said in confused(scenes).tolist()]
    assert len(pairs) == 4 * len(scenes)
    for name in ("colour", "direction"):
        told = Counter((getattr(said, name), getattr(shown, name)) for shown, said in pairs)
        for said, other in TIES[name].items():
            assert told[said, said] == told[said, other] > 0
        assert len(told) == 2 * len(TIES[name]) + (name == "colour"), "white is white"
    assert all(
        getattr(shown, name) == getattr(said, name)
        for shown, said in pairs
        for name in ("shape", "speed", "background")
    )


class Pixels:
    """A 'generator' whose latents are frames (C, T, H, W)."""

    def decode(self, latents):
        return latents.permute(0, 2, 3, 4, 1).to(torch.uint8)

    def encode(self, frames):
        return frames.permute(0, 4, 1, 2, 3).float()


def test_a_spoilt_clip_keeps_little_more_than_the_means_of_its_blocks():
    clips = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 16, 16))).float()
    spoilt = blocky(Pixels(), clips)
    assert spoilt.shape == clips.shape
    for rows in (slice(8), slice(8, 16)):
        block = spoilt[:, :, :, rows, :8]
        assert torch.allclose(block, clips[:, :, :, rows, :8].mean((3, 4), keepdim=True).expand_as(block), atol=0.51)
