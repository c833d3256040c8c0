"""LoRAs on generators: put in force, kept in half precision, refused where they do not fit."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from generators import T2VTurboPipeline, load_generator
from generators.families.t2v_turbo import T2VTurbo, guidance_embedding
from generators.loading import with_adapter
from videoduet.errors import InputError

PROMPT = ["a red circle moving left fast on a teal background"]
SMALL = {"steps": 2, "num_frames": 3}


@pytest.fixture(scope="module")
def turbo(shipped_generator) -> T2VTurbo:
    return load_generator(shipped_generator, sampler={"guidance_scale": 3.0, **SMALL})


def test_an_adapter_is_put_in_force(turbo, shipped_generator, tmp_path):
    targets = LoraConfig(r=2, target_modules=T2VTurbo.lora_targets, init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = get_peft_model(load_generator(shipped_generator).denoiser, targets)
    policy.save_pretrained(tmp_path, save_embedding_layers=False)
    adapted = with_adapter(load_generator(shipped_generator, sampler=SMALL), tmp_path)
    noisy, embeds = torch.stack([turbo.initial_noise(0)]), turbo.encode_prompts(PROMPT)
    timestep, guidance = torch.tensor([519]), guidance_embedding(3.0, policy.config.time_cond_proj_dim)
    with torch.no_grad():
        plain = turbo.predict(noisy, timestep, embeds, [turbo.settings])
        merged = adapted.predict(noisy, timestep, embeds, [turbo.settings])
        unmerged = policy(noisy, timestep, embeds, timestep_cond=guidance).sample
    assert (merged - plain).abs().max() > 1e-2
    torch.testing.assert_close(merged, unmerged, rtol=1e-3, atol=1e-3)
    unchanged = load_generator(shipped_generator, sampler=SMALL)
    assert with_adapter(unchanged, None) is unchanged


@pytest.mark.parametrize("layout", ["peft", "diffusers"])
def test_the_pipeline_takes_loras(turbo, shipped_generator, tmp_path, layout):
    policy = get_peft_model(
        load_generator(shipped_generator).denoiser,
        LoraConfig(r=2, lora_alpha=2, target_modules=T2VTurbo.lora_targets, init_lora_weights=False),
    )
    policy.save_pretrained(tmp_path, save_embedding_layers=False)
    weights = tmp_path
    if layout == "diffusers":
        state = load_file(tmp_path / "adapter_model.safetensors")
        weights = tmp_path / "lora.safetensors"
        save_file({name.replace("base_model.model.", "unet."): value for name, value in state.items()}, weights)
    pipeline = T2VTurboPipeline.from_pretrained(shipped_generator)
    pipeline.load_lora_weights(weights)
    noisy, embeds, timestep = turbo.noise_batch([0]), turbo.encode_prompts(PROMPT), torch.tensor([519])
    guidance = guidance_embedding(3.0, policy.config.time_cond_proj_dim)
    with torch.no_grad():
        loaded, expected = (m(noisy, timestep, embeds, timestep_cond=guidance).sample for m in (pipeline.unet, policy))
    torch.testing.assert_close(loaded, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="no LoRA of a UNet"):
        pipeline.load_lora_weights({"transformer.x.lora_A.weight": torch.ones(1, 1)})


def test_an_adapter_of_another_base_is_refused(turbo, tmp_path):
    with pytest.raises(InputError, match=r"nowhere cannot be put on this generator"):
        with_adapter(turbo, tmp_path / "nowhere")


def test_in_half_precision_an_adapter_keeps_its_own(shipped_generator, tmp_path):
    """A change far below the rounding of a bfloat16 weight is still felt."""
    policy = get_peft_model(load_generator(shipped_generator).denoiser, LoraConfig(r=1, target_modules=["conv_out"]))
    with torch.no_grad():
        for name, value in policy.named_parameters():
            if "lora_" in name:
                value.fill_(0.01)
    policy.save_pretrained(tmp_path, save_embedding_layers=False)
    half = load_generator(shipped_generator, sampler=SMALL, dtype="bfloat16")
    base = half.denoiser.conv_out.weight.clone()
    adapted = with_adapter(half, tmp_path)
    assert isinstance(adapted.denoiser, PeftModel)
    assert torch.equal(adapted.denoiser.get_submodule("base_model.model.conv_out").base_layer.weight, base)
    assert torch.isfinite(adapted.sample(adapted.encode_prompts(PROMPT), [0])).all()
