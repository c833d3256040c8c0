"""VideoCrafter2's sampler against its equations, written out in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.schedulers import scheduling_ddim
from torch import nn

from generators.families.videocrafter2 import VideoCrafter2, VideoCrafter2Pipeline, signal_scale

RNG = np.random.default_rng(0)
SHAPE = (2, 4, 3, 8, 8)
STEPS = 10
START, ANSWERS, NOISE = RNG.normal(size=SHAPE), RNG.normal(size=(STEPS, *SHAPE)), RNG.normal(size=(STEPS, *SHAPE))


class Script(nn.Module):
    """Stands for the UNet: prepared answers, in order; the unconditional rows get a multiple of them."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        self.config, self.timesteps = SimpleNamespace(sample_size=8, in_channels=4), []

    def forward(self, sample, timestep, conditioning):
        answer = torch.from_numpy(ANSWERS[len(self.timesteps)]).float()
        self.timesteps.append(int(timestep))
        rows = [answer] if len(sample) == 2 else [0.5 * answer, answer]
        return SimpleNamespace(sample=torch.cat(rows))


class Unused(nn.Module):
    config, device = SimpleNamespace(block_out_channels=(8, 8, 8)), torch.device("cpu")


def pipeline() -> VideoCrafter2Pipeline:
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    made = VideoCrafter2Pipeline(Unused(), None, None, Script(), scheduler)
    made.set_progress_bar_config(disable=True)
    return made


def by_hand(guidance: float, scale_b: float, eta: float) -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    scales = np.concatenate([np.linspace(1, scale_b, 400), np.full(1000, scale_b)])
    times = np.arange(0, 1000, 1000 // STEPS) + 1
    before = np.concatenate([[0], times[:-1]])
    x = START.copy()
    for index in range(STEPS)[::-1]:
        answer = ANSWERS[STEPS - 1 - index]
        answer = 0.5 * answer + guidance * 0.5 * answer if guidance != 1 else answer
        a, a_before = alphas[times[index]], alphas[before[index]]
        sigma = eta * np.sqrt((1 - a_before) / (1 - a) * (1 - a / a_before))
        clean = (x - np.sqrt(1 - a) * answer) / np.sqrt(a) / scales[times[index]]
        x = np.sqrt(a_before) * scales[before[index]] * clean + np.sqrt(1 - a_before - sigma**2) * answer
        x += sigma * NOISE[STEPS - 1 - index]
    return x


@pytest.mark.parametrize(
    ("guidance", "scale_b", "eta"), [(1, 0.7, 1.0), (12.0, 0.7, 1.0), (3.0, 1.0, 0.0), (1, 0.3, 0.5)]
)
def test_every_step_is_the_authors_equation(monkeypatch, guidance, scale_b, eta):
    noise = iter(torch.from_numpy(NOISE).float())
    monkeypatch.setattr(scheduling_ddim, "randn_tensor", lambda *_, **__: next(noise))
    made = pipeline()
    made.register_to_config(scale_b=scale_b)
    final = made(
        prompt_embeds=torch.zeros(2, 3, 8), negative_prompt_embeds=torch.zeros(2, 3, 8), eta=eta,
        latents=torch.from_numpy(START).float(), num_inference_steps=STEPS, guidance_scale=guidance,
        output_type="latent",
    ).frames  # fmt: skip
    expected = by_hand(guidance, scale_b, eta)
    np.testing.assert_allclose(final.numpy(), expected, atol=2e-4 * np.abs(expected).max())
    assert made.unet.timesteps == [1 + 100 * index for index in range(STEPS)][::-1]


def test_a_number_of_steps_that_does_not_divide_1000():
    made = pipeline()
    made.unet.forward = lambda sample, timestep, conditioning: (
        made.unet.timesteps.append(int(timestep)) or SimpleNamespace(sample=torch.zeros_like(sample))
    )
    arguments = {"prompt_embeds": torch.zeros(1, 3, 8), "guidance_scale": 1, "output_type": "latent"}
    made(latents=torch.zeros(1, 4, 3, 8, 8), num_inference_steps=30, **arguments)
    assert made.unet.timesteps == [1 + 33 * index for index in range(31)][::-1]
    with pytest.raises(ValueError, match="give 1 to 500"):
        made(latents=torch.zeros(1, 4, 3, 8, 8), num_inference_steps=501, **arguments)


def test_the_scale_of_the_signal():
    scale = signal_scale(torch.tensor([0, 399, 400, 999]), 0.7)
    torch.testing.assert_close(scale, torch.tensor([1.0, 0.7, 0.7, 0.7]))
    expected = torch.from_numpy(np.linspace(1, 0.7, 400)).float()
    torch.testing.assert_close(signal_scale(torch.arange(400), 0.7), expected)


def test_training_noise_has_the_scaled_signal():
    generator = VideoCrafter2.__new__(VideoCrafter2)
    generator.pipeline = pipeline()
    latents, noise = torch.ones(2, 4, 3, 8, 8), torch.zeros(2, 4, 3, 8, 8)
    noisy = generator.add_noise(latents, noise, torch.tensor([0, 700]))
    alphas = generator.pipeline.scheduler.alphas_cumprod[[0, 700]].sqrt()
    torch.testing.assert_close(noisy[:, 0, 0, 0, 0], alphas * torch.tensor([1.0, 0.7]))
