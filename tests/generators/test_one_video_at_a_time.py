"""Recomputed twice, a transformer's blocks take one video after the other, and the pass is the same."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_families import FAMILIES, make
from tiny_newer_families import FAMILIES as NEWER
from tiny_newer_families import make as make_newer

from generators import load_generator
from generators.fast import recomputation

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("cogvideox", "wan22_experts", "ltx2", "hunyuan15")]


@pytest.mark.parametrize("family", ["wan", "ltx", *SLOW])
def test_a_block_sees_one_video_at_a_time(family, tmp_path, monkeypatch):
    kinds, maker = (NEWER, make_newer) if family in NEWER else (FAMILIES, make)
    generator = load_generator(maker(family, tmp_path), sampler=kinds[family][1])
    torch.manual_seed(0)
    targets = LoraConfig(r=2, target_modules=generator.lora_targets, init_lora_weights=False)
    generator.denoiser = get_peft_model(generator.denoiser, targets)
    parameters = [each for each in generator.denoiser.parameters() if each.requires_grad]
    latents, embeds = torch.randn(2, *generator.initial_noise(0).shape), generator.encode_prompts(["a", "bc"])
    together, passed = set[int](), recomputation._recomputed

    def seen(forward, *arguments, **named):
        together.add(len(next(value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor))))
        return passed(forward, *arguments, **named)

    away, empty = list[torch.Size](), torch.empty

    def pinned(*shape, **named):
        if "pin_memory" in named:
            away.append(shape[0])
        return empty(*shape, **named)

    monkeypatch.setattr(recomputation, "_recomputed", seen)
    monkeypatch.setattr(recomputation, "AWAY_FROM", "cpu")
    monkeypatch.setattr(torch, "empty", pinned)

    def outputs():
        prediction = generator.predict(latents, torch.tensor([300, 900]), embeds, [generator.settings] * 2)
        return [prediction.detach(), *torch.autograd.grad(prediction.square().mean(), parameters, allow_unused=True)]

    plain = outputs()
    with recomputation.recompute_twice(generator.denoiser):
        less = outputs()
    blocks = recomputation._blocks(generator.denoiser)
    assert together == {1} and len(blocks) > 0
    # The input of each block for each video waited elsewhere; a video goes through one of two experts.
    assert len(away) >= (1 if family == "wan22_experts" else 2) * len(blocks)
    for one, other in zip(plain, less, strict=True):
        assert (one is None and other is None) or torch.allclose(one, other, rtol=1e-3, atol=1e-6)
    assert all(one is other or torch.equal(one, other) for one, other in zip(plain, outputs(), strict=True))
