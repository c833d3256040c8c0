"""Weights in fewer bits: what is asked of the libraries, what is refused, what it saves in a plan."""

import importlib.metadata
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from alignment.training.config import AlignConfig
from pipelines.loop.costs import frozen, training_memory
from pipelines.loop.rates import generator_size
from reward_model.training.config import GRPOTraining
from videoduet import quantized
from videoduet.errors import InputError


def test_it_needs_bitsandbytes_and_a_gpu(monkeypatch):
    quantized.check(None, "align.load_in")
    monkeypatch.setattr(quantized, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="align.load_in is '4bit', which needs bitsandbytes; pip install"):
        quantized.check("4bit", "align.load_in")
    monkeypatch.setattr(quantized, "find_spec", lambda _: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="made for a GPU, and there is none here"):
        quantized.check("8bit", "align.load_in")


@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_what_a_library_is_asked(library, monkeypatch):
    known = importlib.metadata.version
    # Their configs look for its version alone.
    monkeypatch.setattr(importlib.metadata, "version", lambda it: "0.50.0" if it == "bitsandbytes" else known(it))
    four = quantized.how("4bit", library, "bfloat16", ("visual", "lm_head"))
    assert four.load_in_4bit and four.bnb_4bit_quant_type == "nf4" and four.bnb_4bit_use_double_quant
    assert four.bnb_4bit_compute_dtype is torch.bfloat16 and four.llm_int8_skip_modules == ["visual", "lm_head"]
    eight = quantized.how("8bit", library, "float32")
    assert eight.load_in_8bit and not eight.load_in_4bit and not eight.llm_int8_skip_modules


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AlignConfig(load_in="4bit", parameters="all"), "frozen under a LoRA"),
        (lambda: AlignConfig(load_in="4bit", speed="compiled"), "speed 'eager'"),
        (lambda: GRPOTraining(load_in="8bit", parameters="all"), "training.parameters: lora"),
    ],
)
def test_only_what_is_frozen_is_held_in_fewer_bits(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_plan_counts_it():
    """14·10⁹ weights: 28 GB in bfloat16 are 7.2 in four bits and 14 in eight; a UNet's stay."""
    large, config = generator_size("Wan2.1-T2V-14B-Diffusers"), AlignConfig(lora_rank=16)
    plain = frozen(large, config, 2)
    saved = {bits: plain - frozen(large, replace(config, load_in=bits), 2) for bits in ("4bit", "8bit")}
    weights = 1e9 * large.weights[0]
    assert saved["4bit"] == pytest.approx((2 - 0.516) * weights) and saved["8bit"] == pytest.approx(weights)
    # Activations are a little wider then: autocast computes over what is packed.
    whole = [training_memory(large, replace(config, load_in=bits), 1000, weight_bytes=2) for bits in (None, "4bit")]
    assert 0.98 * saved["4bit"] < whole[0] - whole[1] < saved["4bit"]
    unet = generator_size("t2v_turbo")
    assert training_memory(unet, replace(config, load_in="4bit"), 10, weight_bytes=2) == training_memory(
        unet, config, 10, weight_bytes=2
    )


def test_wan_14b_learns_on_48_gb():
    """81 frames of 480x832 pixels in four bits with recomputation in two levels, and 8 % of the card spared, by far;
    what counts is one layer of one video. Recomputed once, it does not fit.
    """
    large = generator_size("Wan2.1-T2V-14B-Diffusers")
    config = AlignConfig(lora_rank=16, gradient_checkpointing="twice", load_in="4bit")
    room, tokens = 0.92 * 48e9, large.tokens(81, 480, 832)
    assert training_memory(large, config, tokens, weight_bytes=2) < 0.6 * room
    assert training_memory(large, replace(config, gradient_checkpointing=True), tokens, weight_bytes=2) > room
