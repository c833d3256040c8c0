"""Training over weights in bfloat16, as the recipes for large models do: products in half, masters in float32."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_generator import SmallGenerator, preference_data

from alignment.training.config import AlignConfig
from alignment.training.policy import autocasts, make_policy
from alignment.training.trainer import align
from generators.fast import half_lora

CONFIG = AlignConfig(
    beta=500.0, learning_rate=1e-3, warmup_steps=0, draws_per_pair=2, batch_size=2, max_steps=2, lora_rank=4,
    mixed_precision="bf16", tracker="none",
)  # fmt: skip


class HalfGenerator(SmallGenerator):
    """The small generator with its denoiser in bfloat16."""

    # oneDNN's gradients of small temporal convolutions in bfloat16 are not finite on some CPUs.
    lora_targets = r".*(to_q|to_k|to_v|resnets\.\d+\.conv1)"

    def __init__(self) -> None:
        super().__init__()
        self.denoiser.bfloat16()

    def predict(self, noisy, timesteps, prompt_embeds, settings) -> torch.Tensor:
        return super().predict(noisy.bfloat16(), timesteps, prompt_embeds.bfloat16(), settings)


def test_autocast_is_for_weights_that_are_not_in_half_already():
    half, wide = (make_policy(g(), CONFIG, 0, None, None, None) for g in (HalfGenerator, SmallGenerator))
    assert not autocasts(half, CONFIG)
    assert autocasts(wide, CONFIG)
    assert not autocasts(wide, replace(CONFIG, mixed_precision="no"))


def test_it_starts_at_its_reference_and_trains_float32_masters(tmp_path, monkeypatch):
    data, passes = preference_data(tmp_path), []
    original = half_lora._product
    monkeypatch.setattr(half_lora, "_product", lambda *given: passes.append(given[1].dtype) or original(*given))
    align(
        HalfGenerator(), data.pairs, data.samples, data.prompts, config=CONFIG, seed=7, output_dir=tmp_path / "out",
        adapter=None,
    )  # fmt: skip
    start, later = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    assert start["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert start["implicit_accuracy"] == 0.5
    assert later["loss"] != pytest.approx(math.log(2), abs=1e-4), "the step was not heard"
    weights = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert set(passes) == {torch.bfloat16}
