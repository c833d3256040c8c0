"""A LoRA in half precision is PEFT's up to rounding: values, gradients in float32 factors, adapters on and off."""

from copy import deepcopy

import pytest
import torch
from one_layer import OneLayer
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from generators.fast.half_lora import lora_in_half

LAYERS = {
    "linear": (lambda: nn.Linear(24, 16), (2, 5, 24)),
    "linear without bias": (lambda: nn.Linear(24, 16, bias=False), (4, 24)),
    "convolution": (lambda: nn.Conv2d(8, 12, 3, stride=2, padding=1), (2, 8, 6, 5)),
    "temporal convolution": (lambda: nn.Conv3d(8, 12, (3, 1, 1), padding=(1, 0, 0)), (2, 8, 5, 2, 2)),
}


def with_lora(kind: str) -> tuple[nn.Module, torch.Tensor]:
    """A layer in bfloat16 under a LoRA in float32 that says something, and an input."""
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=12, target_modules=["layer"], init_lora_weights=False)
    return get_peft_model(OneLayer(make().bfloat16()), lora).eval(), torch.randn(shape).bfloat16()


def values_and_gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    given = x.clone().requires_grad_(True)
    y = model(given)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return {"y": y.detach(), "x": given.grad, **{n: p.grad for n, p in model.named_parameters() if p.requires_grad}}


@pytest.mark.parametrize("kind", LAYERS)
def test_values_and_gradients_are_nearer_to_float32_than_rounding(kind):
    plain, x = with_lora(kind)
    half, exact = deepcopy(plain), deepcopy(plain).float()
    lora_in_half(half)
    expected, found, peft = (values_and_gradients(m, x.to(d)) for m, d in
                             ((exact, torch.float32), (half, torch.bfloat16), (plain, torch.bfloat16)))  # fmt: skip
    assert len(expected) == 4 and found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == peft[name].dtype, name
        assert (found[name].float() - value).norm() < 1e-2 * value.norm(), name


@pytest.mark.parametrize("kind", LAYERS)
def test_off_or_zero_it_is_the_base_to_the_bit(kind):
    model, x = with_lora(kind)
    lora_in_half(model)
    with torch.no_grad():
        with model.disable_adapter():
            off = model(x)
        (plain,) = [
            m
            for m in model.modules()
            if type(m) in (nn.Linear, nn.Conv2d, nn.Conv3d) and m.weight.dtype == torch.bfloat16
        ]
        assert torch.equal(off, plain(x))
        assert not torch.equal(off, model(x))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
        assert torch.equal(off, model(x))


def test_each_pass_reads_the_factors_anew():
    """A fused optimizer changes them without a trace in their version."""
    model, x = with_lora("linear")
    lora_in_half(model)
    before = model(x)
    before.float().sum().backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, fused=True).step()
    assert not torch.equal(before, model(x))


def test_what_is_computed_again_is_of_the_adapter_that_it_was_of():
    """Between a pass and its gradients the reference's pass may switch adapters."""
    model, x = with_lora("linear")
    model.add_adapter("reference", LoraConfig(r=4, target_modules=["layer"], init_lora_weights=False))
    model.set_adapter("default")
    alone = deepcopy(model)
    gradients = []
    for policy, switched in ((alone, False), (model, True)):
        lora_in_half(policy)
        inner = policy.get_base_model().layer
        kept = inner.forward
        inner.forward = lambda x, kept=kept: checkpoint(kept, x, use_reentrant=False)
        y = policy(x.clone().requires_grad_(True))
        if switched:
            policy.set_adapter("reference")
            with torch.no_grad():
                assert not torch.equal(policy(x), y)
            policy.set_adapter("default")
        y.float().square().sum().backward()
        gradients.append([p.grad for n, p in policy.named_parameters() if "default" in n])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.abs().sum() > 0


def test_undone_it_is_pefts():
    model, x = with_lora("convolution")
    before = values_and_gradients(model, x)
    model.zero_grad()
    with lora_in_half(model):
        assert "forward" in vars(model.get_base_model().layer)
    assert "forward" not in vars(model.get_base_model().layer) and not model._forward_pre_hooks
    for name, value in values_and_gradients(model, x).items():
        assert torch.equal(value, before[name]), name
