"""The plan's model of a transformer's training memory, against peaks that torch's allocator counts on the CPU."""

from contextlib import nullcontext

import pytest
import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig, get_peft_model
from test_memory_model import most_held

from generators.families.wan import Wan
from generators.fast import recomputation
from generators.fast.config import SpeedConfig
from generators.fast.speed import speed_up
from pipelines.loop import rates
from pipelines.loop.rates import GeneratorSize

WIDTH, SIDE, FRAMES, ROWS = 128, 16, 4, 64
IN_FULL = ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")


def policy(layers: int, ffn: int) -> torch.nn.Module:
    """A small Wan in bfloat16, as its pipeline loads it, under a LoRA in float32."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=WIDTH // 2, in_channels=16, out_channels=16,
        text_dim=64, freq_dim=64, ffn_dim=ffn, num_layers=layers,
    )  # fmt: skip
    for name, weight in model.named_parameters():
        if not any(part in name for part in IN_FULL):
            weight.data = weight.data.bfloat16()
    targets = LoraConfig(r=4, target_modules=Wan.lora_targets, init_lora_weights=False)
    adapted: torch.nn.Module = get_peft_model(model, targets)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return adapted


@pytest.mark.slow
@pytest.mark.parametrize("widened", [False, True], ids=["half", "autocast"])
@pytest.mark.parametrize("way", [False, "feed_forward", True, "twice"])
@pytest.mark.parametrize(("layers", "ffn", "videos"), [(2, 512, 2), (5, 512, 2), (2, 1024, 2), (3, 512, 4)])
def test_a_pass_of_a_transformer_holds_what_the_plan_says(way, widened, layers, ffn, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(recomputation, "ROWS", ROWS)
    monkeypatch.setattr(rates, "ROWS", ROWS)
    model = policy(layers, ffn)
    speed_up(model, SpeedConfig(gradient_checkpointing=way, autocast=widened, lora_in_half=not widened), "cpu")
    latents = torch.randn(videos, 16, FRAMES, SIDE, SIDE, dtype=torch.bfloat16)
    text, timesteps = torch.randn(videos, 16, 64, dtype=torch.bfloat16), torch.full((videos,), 500.0)

    def step():
        with torch.autocast("cpu", torch.bfloat16) if widened else nullcontext():
            output = model(hidden_states=latents, timestep=timesteps, encoder_hidden_states=text, return_dict=False)[0]
        output.float().square().mean().backward()

    step()
    for weight in model.parameters():
        weight.grad = None
    gradients = sum(4 * weight.numel() for weight in model.parameters() if weight.requires_grad)
    measured = most_held(step, tmp_path / "trace.json") - gradients
    size = GeneratorSize(
        names=[], weights=[0.0], files=0.0, passes=1, frames=[], steps=1, stride=[4, 16], latent=[], decode=0.0,
        layers=layers, width=WIDTH, ffn=ffn,
    )  # fmt: skip
    tokens = FRAMES * (SIDE // 2) ** 2
    found = size.kept(tokens, way, videos, widened=widened)
    # On a CPU the layers' inputs have nowhere else to wait.
    found += 2.0 * tokens * WIDTH * layers * videos if way == "twice" else 0.0
    assert found == pytest.approx(measured, rel=0.15)
