"""T2V-Turbo's sampler against vectors from the authors' own code (tests/golden/t2v_turbo_scheduler)."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import LCMScheduler
from diffusers.schedulers import scheduling_lcm
from safetensors.torch import load_file
from torch import nn

from generators.families.t2v_turbo import T2VTurboPipeline, consistency_grid, guidance_embedding, turbo_timesteps

GOLDEN = Path(__file__).parent.parent / "golden"
VECTORS = load_file(GOLDEN / "t2v_turbo_scheduler.safetensors")
CASES = json.loads((GOLDEN / "t2v_turbo_scheduler.json").read_text())["cases"]
EMBEDDED = VECTORS["w_embedding.out"]
ALIKE = bool((guidance_embedding(VECTORS["w_embedding.w"]) - EMBEDDED).abs().max() < 1e-5)
"""Whether this processor's exponentials and roots round as those of the machine that the vectors come from. Where they
do not, angles of some 10,000 and ten steps of sampling differ in their last bits: on such machines that much is
allowed.
"""


class Script(nn.Module):
    """Stands for the UNet: answers with the vectors' own predictions, in order."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        self.config, self.calls = SimpleNamespace(time_cond_proj_dim=256), []

    def forward(self, sample, timestep, encoder_hidden_states, timestep_cond):
        self.calls.append((int(timestep), timestep_cond))
        return SimpleNamespace(sample=VECTORS["eps_seq"][len(self.calls) - 1])


@pytest.fixture
def scripted_noise(monkeypatch):
    draws = iter(VECTORS["noise_seq"])
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: next(draws))


class Unused(nn.Module):
    """Stands for the autoencoder, which sampling latents never calls."""

    config, device = SimpleNamespace(block_out_channels=(8, 8, 8)), torch.device("cpu")


@pytest.fixture
def pipeline():
    vae = Unused()
    pipeline = T2VTurboPipeline(vae=vae, text_encoder=None, tokenizer=None, unet=Script(), scheduler=LCMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("name", CASES)
def test_timesteps_are_the_authors(name):
    case = CASES[name]
    timesteps = turbo_timesteps(case["original_steps"], case["num_steps"])
    assert timesteps.tolist() == case["timesteps"] == VECTORS[f"{name}.timesteps"].tolist()
    assert set(case["timesteps"]) <= set(consistency_grid(case["original_steps"]).tolist())


def test_the_default_choice_of_diffusers_is_another():
    scheduler = LCMScheduler()
    scheduler.set_timesteps(4, original_inference_steps=50)
    assert scheduler.timesteps.tolist() == CASES["O50_n4"]["lcm_scheduler_default_timesteps"]
    assert scheduler.timesteps.tolist() != turbo_timesteps(50, 4).tolist()


@pytest.mark.parametrize(("original", "steps"), [(50, 0), (50, 51), (1001, 4), (0, 0)])
def test_impossible_numbers_of_steps(original, steps):
    with pytest.raises(ValueError, match=f"{steps} and {original}"):
        turbo_timesteps(original, steps)


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_bit_equal(name, pipeline, scripted_noise):
    case, latents = CASES[name], []
    final = pipeline(
        prompt_embeds=torch.zeros(2, 3, 8),
        latents=VECTORS["x_init"],
        num_inference_steps=case["num_steps"],
        original_steps=case["original_steps"],
        output_type="latent",
        callback_on_step_end=lambda pipe, index, timestep, given: latents.append(given["latents"]) or {},
    ).frames
    # After the last step the authors draw noise that nobody uses; what they return is the last `denoised`.
    expected = VECTORS[f"{name}.prev_sample"][: max(1, len(latents) - 1)], VECTORS[f"{name}.denoised"][-1]
    for found, wanted in zip((torch.stack(latents[:-1] or [final]), final), expected, strict=True):
        if ALIKE:
            assert torch.equal(found, wanted)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * wanted.abs().max().item())
    assert [timestep for timestep, _ in pipeline.unet.calls] == case["timesteps"]


def test_a_callback_may_replace_the_latents(pipeline, scripted_noise):
    def halve(pipe, index, timestep, given):
        return {"latents": given["latents"] / 2}

    arguments = {"prompt_embeds": torch.zeros(2, 3, 8), "latents": VECTORS["x_init"], "output_type": "latent"}
    final = pipeline(**arguments, num_inference_steps=4, callback_on_step_end=halve).frames
    assert not torch.equal(final, VECTORS["O50_n4.denoised"][-1])


def test_the_scheduler_noises_as_the_authors_do():
    x0, noise, timesteps = (VECTORS[f"add_noise.{name}"] for name in ("x0", "noise", "timesteps"))
    scheduler = LCMScheduler()
    assert torch.equal(scheduler.alphas_cumprod, VECTORS["alphas_cumprod"])
    noisy = scheduler.add_noise(x0, noise, timesteps)
    torch.testing.assert_close(noisy, VECTORS["add_noise.out"], rtol=0, atol=1e-6)


def test_guidance_embedding():
    out = guidance_embedding(VECTORS["w_embedding.w"])
    torch.testing.assert_close(out, EMBEDDED, rtol=0, atol=1e-5 if ALIKE else 1e-3)
    assert torch.equal(guidance_embedding(7.5), guidance_embedding(torch.tensor([7.5])))
    assert guidance_embedding(7.5, dim=64).shape == (1, 64)


def test_the_guidance_scale_itself_is_embedded(pipeline, scripted_noise):
    arguments = {"prompt_embeds": torch.zeros(2, 3, 8), "latents": VECTORS["x_init"], "output_type": "latent"}
    pipeline(**arguments, guidance_scale=7.5)
    for _, embedding in pipeline.unet.calls:
        torch.testing.assert_close(embedding, EMBEDDED[1].expand(2, -1), rtol=0, atol=1e-5 if ALIKE else 1e-3)
